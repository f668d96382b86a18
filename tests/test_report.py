"""The page without a browser: what it says of numbers and labels; charts; the paper's figures; the commands."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analytic_face import analytic_face
from numpy.typing import NDArray
from typer.testing import CliRunner

from casfne import files, images, schema, table
from casfne.applied.geometry import from_depth, write_mesh
from casfne.corpora.samples import Sample
from casfne.errors import InputError
from casfne.evaluation.metrics import summarise
from casfne.normals import angle_deg, decode, encode
from casfne.report.charts import histogram, lines
from casfne.report.faces import Face, chosen, of_labels, of_sample, payload, pictured, spread
from casfne.report.page import Evaluation, Labels, render
from casfne.report.paper import errors_figure, relit_figure, save, stages_figure
from casfne.report_command import figure_app, report_app

NORMALS, MASK, _ = analytic_face(256)
STAGES = np.stack([NORMALS * [-1, 1, 1], NORMALS]).astype(np.float32)


def png(picture: NDArray[np.uint8]) -> dict[str, Any]:
    return {"bytes": images.encode_image(picture), "path": None}


def row(folder: Path, number: int, **more: Any) -> dict[str, Any]:
    """A label of a face whose photograph lies in ``folder``."""
    path = folder / f"{number}.png"
    images.write_image(path, images.shade(NORMALS, np.float32([0.3, 0.2, 0.93]), MASK))
    maps = {"normal": png(encode(NORMALS, MASK)), "mask": png((MASK * 255).astype(np.uint8))}
    crop = {"crop_left": 0, "crop_top": 0, "crop_side": 256}
    numbers = {"roughness_deg": 2.0 + number, "confidence_deg": 9.0 + number, "sharpness": 50.0, "coverage": 1.0}
    about = {"image_id": f"{number}", "path": str(path), "face_index": 0, "status": "ok", "refinements": 1}
    return about | crop | maps | numbers | more


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five faces with stages, and three images that gave none."""
    folder = tmp_path_factory.mktemp("labels")
    stages = [png(encode(stage, MASK)) for stage in STAGES]
    rows = [row(folder, i, stages=stages) for i in range(5)]
    for i, code in enumerate(["no_face", "damaged_image", "damaged_image"]):
        status = schema.REASONS[code].status
        rows.append({"image_id": f"bad{i}", "path": "x", "face_index": -1, "status": status, "reason_code": code})
    with files.atomic_open(folder / "out" / "corpus=a<b" / "part-00000.parquet") as file:
        schema.write(file, rows, {})
    return folder / "out"


def evaluation(people: int = 5) -> Evaluation:
    """Numbers as the stage evaluate writes them, of errors around 10, 8 and 7 degrees."""
    random = np.random.default_rng(0)
    per = {name: random.gamma(4, mean / 4, (40, 500)) for name, mean in (("constant", 30), ("t0", 10), ("t1", 7))}
    counts = {"images": 40, "people": people, "pixels": 20000}
    numbers = {name: summarise(e.ravel()) | counts | {"low_deg": 6.11, "high_deg": 8.22} for name, e in per.items()}
    rows = [
        {"sample_id": f"s{i}", "predictor": n, "mean_deg": v} for n, e in per.items() for i, v in enumerate(e.mean(1))
    ]
    metrics = counts | {"by_pixel": numbers, "by_image": numbers, "regions": {"t1": {"nose": numbers["t1"]}}}
    return Evaluation(metrics | {"bins": {"t1": {"skin_tone": {"dark": numbers["t0"]}}}}, pd.DataFrame(rows))


class Text(HTMLParser):
    """The words of a page; and whatever it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.fetched, self._code = "", [], False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code = tag in ("script", "style")
        self.fetched += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]

    def handle_endtag(self, tag: str) -> None:
        self._code = False

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.words += " " + " ".join(data.split())


def test_the_page_says_the_numbers_and_fetches_nothing(labels: Path) -> None:
    e, frame = evaluation(), table.read(labels)
    page = Text(render([], [], e, Labels("out/a", frame), None))
    last = e.metrics["by_pixel"]["t1"]
    assert f"{last['mean_deg']:.2f} ± {last['std_deg']:.2f}°" in page.words and "(6.1–8.2)" in page.words
    assert "By region" in page.words and "nose" in page.words and "By skin tone" in page.words
    assert 'table.read("out/a")' in page.words
    assert page.fetched == [] and "http" not in re.sub(r"http://www.w3.org/\S+", "", page.words)


def test_without_intervals_regions_or_people_it_says_less(labels: Path) -> None:
    e = evaluation()
    bare = {k: v for k, v in e.metrics.items() if k not in ("regions", "bins")}
    bare["by_image"] = {
        n: {"mean_deg": v["mean_deg"], "low_deg": None, "high_deg": None} for n, v in bare["by_pixel"].items()
    }
    words = Text(render([], [], Evaluation(bare))).words
    assert "By region" not in words and "Labels" not in words and "–" not in words


def test_failures_are_counted_by_reason(labels: Path) -> None:
    words = Text(render([], [], None, Labels("x", table.read(labels)))).words
    assert "unreadable 2 cut short or broken inside" in words and "no_face 1 the detector found no face" in words
    twice = pd.concat([table.read(labels).assign(corpus=name) for name in "ab"])
    images = table.read(labels)["image_id"].nunique()
    assert f"in {2 * images} images of a, b" in Text(render([], [], None, Labels("x", twice))).words
    clean = table.read(labels, filters=[("status", "==", "ok")])
    assert "Every image gave a label." in Text(render([], [], None, Labels("x", clean))).words


def test_names_cannot_break_out_of_the_page(labels: Path) -> None:
    evil = Face("</script><img src=x onerror=alert(1)>", np.zeros((256, 256, 3), np.uint8), STAGES[-1:], MASK, 1)
    page = render([], [evil, evil], None, Labels("<b>", table.read(labels)))
    assert "<img src=x" not in page and "a<b<" not in page and page.count("</script>") == 2
    assert json.loads(payload([evil]))["faces"][0]["name"] == evil.name


def test_faces_chosen_are_the_best_the_worst_and_between() -> None:
    scores = pd.Series([5.0, 1, np.nan, 3, 2, 4], index=list("abcdef"))
    assert list(spread(scores, 3)) == ["b", "d", "a"] and list(spread(scores, 99)) == ["b", "e", "d", "f", "a"]
    assert list(spread(scores, 1)) == ["b"] and list(spread(scores, 0)) == []


def test_labels_become_faces_again(labels: Path) -> None:
    faces = of_labels(pictured(str(labels), chosen(table.read(labels), 3)))
    assert [f.name for f in faces] == ["a<b: 0", "a<b: 2", "a<b: 4"]  # by roughness
    for face in faces:
        assert face.stages.shape == (2, 256, 256, 3) and (face.mask == MASK).all() and face.truth is None
        assert angle_deg(face.stages[-1], NORMALS)[MASK].max() < 0.5
        assert "roughness" in " ".join(face.facts) and "last refinement moved" not in " ".join(face.facts)


def test_stored_stages_come_back() -> None:
    data = json.loads(payload([Face("a", np.zeros((256, 256, 3), np.uint8), STAGES, MASK, 1, NORMALS)]))
    (face,) = data["faces"]
    last, change, truth = (
        images.read_image(bytes_of(address)).astype(int)
        for address in (face["normals"], face["changes"][0], face["truth"])
    )
    assert (last == encode(NORMALS, MASK)).all() and (truth == last).all()
    restored = last + 2 * change.astype(np.uint8).view(np.int8).astype(int)
    assert np.abs(restored - encode(STAGES[0], MASK)).max() <= 1
    expected = angle_deg(STAGES[0], NORMALS)[MASK].mean()
    assert face["errors_deg"] == pytest.approx([expected, 0], abs=1e-4) and face["light"] is None
    assert decode(last.astype(np.uint8)).shape == NORMALS.shape


def bytes_of(address: str) -> bytes:
    import base64

    return base64.b64decode(address.partition(",")[2])


# --- charts ---


def test_a_histogram_counts_every_value_once() -> None:
    values = np.r_[np.random.default_rng(1).gamma(3, 2, 500), np.nan]
    drawn = [int(n) for n in re.findall(r"<title>.*?: (\d+)</title>", histogram(values, "x", "y"))]
    assert sum(drawn) == 500
    assert (
        "<svg" not in histogram([np.nan], "x", "y")
        and sum(int(n) for n in re.findall(r"<title>.*?: (\d+)</title>", histogram([3.0, 3.0], "x", "y"))) == 2
    )


def test_lines_lie_where_their_values_say() -> None:
    svg = lines({"a": [(0, 1.0), (1, 3.0), (2, 2.0)], "<b>": [(0, 0.0), (2, 4.0)]}, "t", "error", whole=True)
    places = np.array(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg), float)
    assert np.diff(places[:3, 0]) == pytest.approx([places[1, 0] - places[0, 0]] * 2, abs=0.11)
    assert places[1, 1] < places[2, 1] < places[0, 1] and places[4, 1] < places[1, 1] < places[3, 1]
    assert "&lt;b&gt;" in svg and "0.5" not in re.findall(r">([\d.]+)</text>", svg)


# --- the paper's figures ---


FACE = Face("a", images.shade(NORMALS, np.float32([0.3, 0.2, 0.93]), MASK), STAGES, MASK, 1, NORMALS)


def test_figures_are_written_as_png_and_pdf_twice_the_same(tmp_path: Path) -> None:
    for make in (lambda: stages_figure([FACE, FACE]), lambda: errors_figure([FACE])):
        first = [path.read_bytes() for path in save(make(), tmp_path / "fig.3")]
        again = [path.read_bytes() for path in save(make(), tmp_path / "fig.3")]
        assert first == again and first[1].startswith(b"%PDF")
    assert {p.name for p in tmp_path.iterdir()} == {"fig.3.png", "fig.3.pdf"}
    picture = images.read_image(tmp_path / "fig.3.png")
    assert picture.shape[1] > 6 * 250  # input, truth, two stages with their errors


def test_a_figure_needs_what_it_shows() -> None:
    single = Face("b", FACE.photo, STAGES[-1:], MASK, 1)
    with pytest.raises(InputError, match="different numbers of stages"):
        stages_figure([FACE, single])
    with pytest.raises(InputError, match="b: no truth"):
        errors_figure([single])
    with pytest.raises(InputError, match="other faces"):
        relit_figure({"ours": [FACE], "theirs": [single]})


# --- the commands ---


def run(app: Any, *arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_report_writes_one_page(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluate.json").write_text(json.dumps(evaluation().metrics))
    out = tmp_path / "page.html"
    assert "4 faces" in run(report_app, labels, "--out", out, "--faces", 4, "--evaluation", tmp_path / "evaluate.json")
    page = out.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert len(data["faces"]) == 4 and all(len(face["changes"]) == 1 and face["light"] for face in data["faces"])
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".html"] == ["page.html"]


@pytest.mark.parametrize("content", ["", "[]", '{"by_pixel": {}}', None])
def test_a_wrong_evaluation_is_named(labels: Path, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "e.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        run(report_app, labels, "--out", tmp_path / "p.html", "--evaluation", path)


def test_figures_from_labels(labels: Path, tmp_path: Path) -> None:
    mesh = tmp_path / "m.ply"
    write_mesh(mesh, from_depth(NORMALS, MASK))
    run(figure_app, "stages", labels, "--out", tmp_path / "fig3")
    run(figure_app, "relit", f"ours={labels}", f"theirs={labels}", "--out", tmp_path / "fig7", "--limit", 2)
    run(figure_app, "geometry", labels, "--mesh", f"ours={mesh}", "--out", tmp_path / "fig9")
    assert {p.name for p in tmp_path.glob("fig*")} == {f"fig{n}.{k}" for n in (3, 7, 9) for k in ("png", "pdf")}
    clay = images.read_image(tmp_path / "fig9.png")[-256:, -256:]
    assert (clay[MASK].std() > 10) and (clay[0] == 255).all()
    with pytest.raises(InputError, match="NAME=PLACE"):
        run(figure_app, "relit", str(labels), "--out", tmp_path / "x")
    with pytest.raises(InputError, match="no labelled face"):
        run(figure_app, "stages", labels, "--out", tmp_path / "x", "--where", "roughness_deg > 99")


def test_labels_without_stages_are_said_to_be(tmp_path: Path) -> None:
    with files.atomic_open(tmp_path / "out" / "corpus=a" / "part-00000.parquet") as file:
        schema.write(file, [row(tmp_path, 0)], {})
    with pytest.raises(InputError, match="--stages"):
        run(figure_app, "stages", tmp_path / "out", "--out", tmp_path / "x")


def test_predictions_are_shown_where_shadows_hide_the_truth() -> None:
    mask = MASK.copy()
    mask[120:140, 100:150] = False
    sample = Sample(FACE.photo, NORMALS, mask, np.ones((256, 256), np.float32))
    face = of_sample("a", sample, STAGES)
    assert face.mask[125:135, 105:145].all() and (face.known == mask).all()
    assert face.errors_deg == pytest.approx([angle_deg(STAGES[0], NORMALS)[mask].mean(), 0], abs=1e-4)
