"""Corpora with truth: each from a tree in its layout whose normals are known, and the commands around them."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from analytic_face import analytic_face
from numpy.typing import NDArray
from test_photoface import write_session
from typer.testing import CliRunner

from casfne.board import board_app
from casfne.corpora import photoface
from casfne.corpora.ict3drfe import ict3drfe_jobs
from casfne.corpora.samples import INDEX, Row, read_index, read_sample, write_archive, write_index
from casfne.corpora.truths import Cutter, sample_jobs, write_truth
from casfne.corpora.yale_b import POINTS, yale_b_jobs
from casfne.errors import InputError
from casfne.images import Crop, crop_from_points, linear_to_srgb, read_image, to_uint8, write_image
from casfne.labelling.quality import oval
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights
from casfne.normals import angle_deg, convert, direction, encode, normalise
from casfne.truth import truth_app

app = typer.Typer()
app.add_typer(truth_app)
app.add_typer(board_app)
WINDOW = Crop(40, 30, 320)
ONES = np.ones((256, 256), bool)


def run(*arguments: object) -> list[str]:
    """A command that must succeed: what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.exception
    return result.stdout.splitlines()


def refused(*arguments: object) -> str:
    """A command that must be refused in one line, which is returned."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, InputError) and "\n" not in str(result.exception)
    return str(result.exception)


# --- Yale B ---


def bump(height: int, width: int) -> NDArray[np.float32]:
    """Normals of a shallow dome with waves: no light within 50 degrees casts a shadow on it."""
    y, x = np.mgrid[:height, :width]
    slope_x = 0.9 * (x - width / 2) / width + 0.15 * np.sin(y / 15)
    slope_y = -0.7 * (y - height / 2) / height + 0.15 * np.cos(x / 12)
    return normalise(np.stack([slope_x, slope_y, np.ones((height, width))], -1))


def write_yale_b(folder: Path, normals: NDArray[np.float32], albedo: float = 0.8) -> None:
    """A person under 35 lights: positive azimuths come from the left of the picture."""
    for azimuth in range(-45, 46, 15):
        for elevation in range(-20, 21, 10):
            lit = albedo * np.maximum(normals @ direction(-azimuth, elevation), 0)
            name = f"{folder.name}_P00A{azimuth:+04d}E{elevation:+03d}.pgm"
            write_image(folder / name, to_uint8(lit))


@pytest.fixture(scope="module")
def yale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yale")
    write_yale_b(folder / "tree" / "yaleB11", bump(192, 168))
    assert "35 images of 1 captures" in run("truth", "yale_b", folder / "tree", "--out", folder / "out")[0]
    return folder / "out"


def test_stereo_truth_is_that_of_the_surface(yale: Path) -> None:
    crop = crop_from_points(np.mean(list(POINTS.values()), 0))
    sample = read_sample(yale, "yaleB11.npz", 0)
    errors = angle_deg(sample.normal, normalise(crop.apply(bump(192, 168))))[sample.mask]
    assert errors.mean() < 0.6 and np.percentile(errors, 95) < 1
    assert sample.mask.mean() > 0.15 and not sample.mask[~crop.inside(192, 168)].any()
    assert sample.trust[sample.mask].mean() > 0.5


def test_images_are_srgb_and_know_their_light(yale: Path) -> None:
    index = read_index(yale).set_index("sample_id")
    row = index.loc["yaleB11_P00A+030E-10"]
    assert row["light_azimuth_deg"] == pytest.approx(-30, abs=0.5) and row["subject"] == "yaleB11"
    assert row["light_elevation_deg"] == pytest.approx(-10, abs=0.1) and row["yaw_deg"] == 0
    sample = read_sample(yale, row["archive"], row["light"])
    towards = direction(row["light_azimuth_deg"], row["light_elevation_deg"])
    expected = 255 * linear_to_srgb(0.8 * sample.normal @ towards)
    assert np.abs(sample.image[..., 0] - expected)[sample.mask].mean() < 2
    assert (read_image(yale / "images" / "yaleB11_P00A+030E-10.png") == sample.image).all()


def test_real_captures_become_truth(shared_data: Path, tmp_path: Path) -> None:
    count, failures = write_truth(tmp_path, yale_b_jobs(shared_data / "yale_b", tmp_path))
    assert (count, failures) == (88, []) and set(read_index(tmp_path)["subject"]) == set(POINTS)
    for name in POINTS:
        sample = read_sample(tmp_path, f"{name}.npz", 0)
        assert abs(sample.normal[sample.mask][:, 0].mean()) < 0.05 and 0.2 < sample.mask.mean() < 0.35


def test_trees_that_are_no_yale_b(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no Yale B" in refused("truth", "yale_b", tmp_path / "empty", "--out", tmp_path / "out")
    write_yale_b(tmp_path / "small" / "yaleB01", bump(100, 100))
    assert "100x100, expected the cropped ones, 168x192" in refused(
        "truth", "yale_b", tmp_path / "small", "--out", tmp_path / "out"
    )


# --- ICT-3DRFE ---


def write_ict(root: Path, frame: str = "opengl", bits: int = 16, size: int = 400) -> Path:
    """One expression: a face that formulas give, 0 elsewhere, and its photographs under two lights."""
    normals, mask, _ = analytic_face(size)
    folder = root / "person_03" / "smile"
    (folder / "photographs").mkdir(parents=True)
    full = 2**bits - 1
    stored = np.rint((convert(normals, "opengl", frame) + 1) * full / 2) * mask[..., None]
    kind = np.uint16 if bits == 16 else np.uint8
    cv2.imwrite(str(folder / "specular_normal.png"), stored[..., ::-1].astype(kind))
    for name, light in (("left", (-40, 10)), ("right", (40, 10))):
        shade = np.maximum(normals @ direction(*light), 0) * mask
        photo = to_uint8(linear_to_srgb(0.6 * shade))
        write_image(folder / "photographs" / f"{name}.png", np.repeat(photo[..., None], 3, -1))
    return folder


def cutter(*found: Crop, size: int = 400) -> Cutter:
    """A detector that finds these windows in the whole picture, and none in its smaller copies."""
    return Cutter(lambda image: list(found) if len(image) == size else [], oval())


@pytest.mark.parametrize("bits", [8, 16])
def test_a_light_stages_normals_lie_on_its_photographs(tmp_path: Path, bits: int) -> None:
    write_ict(tmp_path / "tree", bits=bits)
    count, failures = write_truth(tmp_path / "out", ict3drfe_jobs(tmp_path / "tree", tmp_path / "out", cutter(WINDOW)))
    assert (count, failures) == (2, [])
    index = read_index(tmp_path / "out")
    assert list(index["sample_id"]) == ["person_03_smile_left", "person_03_smile_right"]
    assert set(index["subject"]) == {"person_03"} and set(index["session"]) == {"smile"}
    normals, mask, _ = analytic_face(400)
    sample = read_sample(tmp_path / "out", index["archive"][0], 1)
    expected = normalise(WINDOW.apply(normals))
    assert angle_deg(sample.normal, expected)[sample.mask].max() < 1
    covered = WINDOW.apply(mask.astype(np.float32)) > 0.99
    assert (sample.mask == (covered & oval())).all() and sample.mask.mean() > 0.3
    shade = to_uint8(linear_to_srgb(0.6 * np.maximum(expected @ direction(40, 10), 0)))
    assert np.abs(sample.image[..., 0].astype(int) - shade)[sample.mask].mean() < 2


def ict_refused(root: Path, find: Cutter) -> str:
    with pytest.raises(InputError) as error:
        write_truth(root / "out", ict3drfe_jobs(root, root / "out", find))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_layouts_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty" / "a" / "b").mkdir(parents=True)
    assert "specular_normal.png and photographs/" in ict_refused(tmp_path / "empty", cutter(WINDOW))
    folder = write_ict(tmp_path / "bare")
    (folder / "specular_normal.png").unlink()
    assert f"{folder / 'specular_normal.png'}: cannot be read" in ict_refused(tmp_path / "bare", cutter(WINDOW))
    folder = write_ict(tmp_path / "blank")
    for path in (folder / "photographs").iterdir():
        path.unlink()
    assert f"{folder / 'photographs'}: no photographs" in ict_refused(tmp_path / "blank", cutter(WINDOW))
    folder = write_ict(tmp_path / "other")
    write_image(folder / "photographs" / "left.png", np.zeros((300, 200, 3), np.uint8))
    assert "left.png: 200x300 pixels, but specular_normal.png has 400x400" in ict_refused(
        tmp_path / "other", cutter(WINDOW)
    )
    assert "no face found" in ict_refused(write_ict(tmp_path / "faceless").parents[1], cutter())
    assert "look as in frame directx" in ict_refused(write_ict(tmp_path / "down", "directx").parents[1], cutter(WINDOW))


def test_the_window_is_the_median_over_sizes() -> None:
    def find(image: NDArray[np.uint8]) -> list[Crop]:
        scale = len(image) / 400
        side = 100 * scale * (1.3 if len(image) == 400 else 1)  # one step too large in the picture itself
        return [Crop(0, 0, 10), Crop(round(200 * scale - side / 2), round(180 * scale - side / 2), round(side))]

    found = Cutter(find, ONES).largest(np.zeros((400, 300, 3), np.uint8), "a picture")
    assert abs(found.side - 100) <= 2 and abs(found.left - 150) <= 2 and abs(found.top - 130) <= 2


# --- samples that are there already, and Photoface ---


def write_samples(root: Path, people: int = 3) -> Path:
    """As `prepare` or the studio leave them."""
    random, rows = np.random.default_rng(0), []
    normals = np.broadcast_to(np.float32([0, 0, 1]), (256, 256, 3))
    for who in range(people):
        images = random.integers(0, 255, (2, 256, 256, 3), dtype=np.uint8)
        maps = {"normal": normals, "mask": ONES, "trust": ONES, "albedo": np.ones((256, 256))}
        write_archive(root / f"p{who}.npz", images, maps)
        rows += [
            {"sample_id": f"p{who}_im{i}", "archive": f"p{who}.npz", "light": i, "subject": f"p{who}"} for i in (0, 1)
        ]
    write_index(root, rows)
    return root


def test_samples_keep_their_bytes_and_get_pictures(tmp_path: Path) -> None:
    root = write_samples(tmp_path / "samples")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["p0", "p2"], "test": ["p1"]}))
    run("truth", "studio", root, "--out", tmp_path / "all")
    assert len(read_index(tmp_path / "all")) == 6
    run("truth", "photoface", root, "--out", tmp_path / "test", "--split", split)
    assert sorted(p.name for p in (tmp_path / "test").iterdir()) == ["images", INDEX, "p1.npz"]
    assert (tmp_path / "test" / "p1.npz").read_bytes() == (root / "p1.npz").read_bytes()
    picture = read_image(tmp_path / "test" / "images" / "p1_im1.png")
    assert (picture == read_sample(root, "p1.npz", 1).image).all()
    assert "the samples' own folder" in refused("truth", "studio", root, "--out", root)
    (root / "p0.npz").unlink()
    assert "1 of 3 captures" in refused("truth", "studio", root, "--out", tmp_path / "fewer")
    assert len(read_index(tmp_path / "fewer")) == 4


def test_archives_that_cannot_be_read_have_no_rows_and_stay_away(tmp_path: Path) -> None:
    root, out = write_samples(tmp_path / "samples"), tmp_path / "out"
    whole = (root / "p1.npz").read_bytes()
    (root / "p1.npz").write_bytes(whole[: len(whole) // 2])
    assert "1 of 3 captures" in refused("truth", "studio", root, "--out", out)
    assert set(read_index(out)["archive"]) == {"p0.npz", "p2.npz"} and not (out / "p1.npz").exists()
    assert not list((out / "images").glob("p1_*"))


def test_what_an_earlier_run_left_goes_and_other_files_stay(tmp_path: Path) -> None:
    root, out, split = write_samples(tmp_path / "samples"), tmp_path / "out", tmp_path / "split.json"
    run("truth", "studio", root, "--out", out)
    (out / INDEX).unlink()  # as an interrupted run leaves it
    shutil.copy(root / "p0.npz", out / "rendered.npz")  # samples that no truth was made of
    for own in (out / "mine.npz", out / "images" / "mine.png", out / "images" / "p0a.png"):
        own.write_bytes(b"of the user's")
    split.write_text(json.dumps({"train": ["p0", "p2"], "test": ["p1"]}))
    run("truth", "studio", root, "--out", out, "--split", split)
    assert {p.name for p in out.iterdir()} == {"images", INDEX, "mine.npz", "rendered.npz", "p1.npz"}
    assert {p.name for p in (out / "images").iterdir()} == {"mine.png", "p0a.png", "p1_im0.png", "p1_im1.png"}


def test_a_run_that_fails_or_is_interrupted_leaves_no_index(tmp_path: Path) -> None:
    root, out = write_samples(tmp_path / "samples"), tmp_path / "out"

    def interrupted() -> list[Row]:
        raise KeyboardInterrupt

    jobs = sample_jobs(root, out)
    write_truth(out, jobs)
    with pytest.raises(KeyboardInterrupt):
        write_truth(out, [jobs[0], replace(jobs[1], make=interrupted), jobs[2]])
    assert not (out / INDEX).exists()
    write_truth(out, jobs)
    for path in root.glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match="3 of 3 captures"):
        write_truth(out, jobs)
    assert not (out / INDEX).exists()


def test_captures_of_one_name_never_replace_each_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_yale_b(tmp_path / "tree" / "yaleB11", bump(192, 168))
    shutil.copytree(tmp_path / "tree" / "yaleB11", tmp_path / "tree" / "yaleB12")
    message = refused("truth", "yale_b", tmp_path / "tree", "--out", out)
    assert message.startswith("1 of 2 captures") and set(read_index(out)["archive"]) == {"yaleB11.npz"}
    assert not (out / "yaleB12.npz").exists()
    photographs = write_ict(tmp_path / "ict") / "photographs"
    write_image(photographs / "left.jpg", read_image(photographs / "left.png"))
    assert "person_03_smile_left is there already" in ict_refused(tmp_path / "ict", cutter(WINDOW))
    index, jobs = (out / INDEX).read_bytes(), yale_b_jobs(tmp_path / "tree", out)
    with pytest.raises(InputError, match=r"yaleB12: yaleB11\.npz is there already, of .*yaleB11"):
        write_truth(out, [jobs[0], replace(jobs[1], archives=jobs[0].archives)])
    assert (out / INDEX).read_bytes() == index


def test_a_photoface_tree_goes_through_stereo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_prepare import CODE, LIGHTS, solve

    monkeypatch.setattr(photoface, "solve_capture", solve)
    monkeypatch.setattr(photoface, "code_version", CODE)
    for who in ("0001", "0002", "0003"):
        write_session(tmp_path / "tree" / who / "2020-01-01_03-04-05", LIGHTS, 192)
    (tmp_path / "tree" / "0003" / "2020-01-01_03-04-05" / "metadata.txt").unlink()
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["0001"], "test": ["0002", "0003"]}))
    arguments = ("truth", "photoface", tmp_path / "tree", "--out", tmp_path / "out", "--split", split)
    assert "1 of 2 captures" in refused(*arguments)
    index = read_index(tmp_path / "out")
    assert list(index["sample_id"]) == [f"0002_2020-01-01_03-04-05_im{i}" for i in range(4)]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    stamp = (tmp_path / "out" / index["archive"][0]).stat().st_mtime_ns
    refused(*arguments)
    assert (tmp_path / "out" / index["archive"][0]).stat().st_mtime_ns == stamp  # what is done stays done
    split.write_text(json.dumps({"train": ["0001"], "test": ["0002", "0099"]}))
    assert "no session of 0099" in refused(*arguments)


# --- the commands ---


def test_a_user_measures_a_model_on_a_truth(yale: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_weights(tmp_path / "tiny.safetensors", Cascade(CascadeConfig(4, 1)), {"confidence": {"one": 2.0}})
    run("predict", yale / "images", "--out", tmp_path / "ours", "--weights", tmp_path / "tiny.safetensors")
    normals = np.load(tmp_path / "ours" / "yaleB11_P00A+030E-10.npy")
    assert normals.shape == (256, 256, 3) and np.linalg.norm(normals, axis=-1) == pytest.approx(1, abs=1e-4)
    run("compare", "--truth", yale, "--predictions", f"ours={tmp_path / 'ours'}", "--out", tmp_path / "board")
    result = json.loads((tmp_path / "board" / "leaderboard.json").read_text())["ours"]
    assert result["by_pixel"]["images"] == 35 and not result["missing"] and not result["gaps"]
    assert "-20 to 20 deg" in result["bins"]["light_azimuth"]


def test_predict_reads_what_can_be_read_wherever_it_lies(tmp_path: Path) -> None:
    weights, folder = tmp_path / "tiny.safetensors", tmp_path / "crops"
    save_weights(weights, Cascade(CascadeConfig(4, 1)), {"confidence": {"one": 2.0}})
    odd = os.fsdecode(b"not\xffutf8.png")
    for name in ("a.png", "b.png", "c.png"):
        write_image(folder / name, np.full((256, 256, 3), 90, np.uint8))
    (folder / "c.png").rename(folder / odd)
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.write(folder / name, f"inside/{name}")
    (folder / "a.png").write_bytes(b"no picture")
    message = refused("predict", folder, "--out", tmp_path / "out", "--weights", weights)
    assert message.startswith("1 of 3 pictures cannot be read: ") and "a.png: not an image" in message
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.npy", f"{Path(odd).stem}.npy"}
    assert "2 maps" in run("predict", tmp_path / "crops.zip", "--out", tmp_path / "zip", "--weights", weights)[0]
    write_image(folder / "b.jpg", np.zeros((256, 256, 3), np.uint8))
    message = refused("predict", folder, "--out", tmp_path / "twice", "--weights", weights)
    assert "b.jpg and " in message and "would both be b.npy" in message and not (tmp_path / "twice").exists()


def test_what_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "'lfw': expected one of photoface" in refused("truth", "lfw", tmp_path, *out)
    assert "no such folder" in refused("truth", "yale_b", tmp_path / "none", *out)
    assert "--split: says nothing of yale_b" in refused("truth", "yale_b", tmp_path, "--split", tmp_path, *out)
    assert "'30': expected two angles" in refused("truth", "florence", tmp_path, "--pose", "30", *out)
    assert "below 90 degrees" in refused("truth", "florence", tmp_path, "--light", "-120,0", *out)
    assert "no Florence" in refused("truth", "florence", tmp_path, "--pose", "-30,0", *out)
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused("predict", tmp_path / "empty", *out)
    write_image(tmp_path / "one" / "a.png", encode(np.zeros((8, 8, 3))))
    assert "no weights" in refused("predict", tmp_path / "one", "--weights", tmp_path / "w.safetensors", *out)
