"""The commands `casfne report`, labels as a page, and `casfne figure ...`, figures in the manner of the paper."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from casfne.ask import Labels, Where, condition
from casfne.console import RELEASE, Weights
from casfne.errors import InputError

report_app = typer.Typer()
figure_app = typer.Typer(help="Figures in the manner of the paper's 3, 4, 7 and 9.", no_args_is_help=True)
Figure = Annotated[Path, typer.Option("--out", help="Where to write: this name with .png and with .pdf behind it.")]
Rows = Annotated[int, typer.Option(min=1, help="Faces, a row each.")]


@report_app.command()
def report(
    labels: Labels,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")],
    faces: Annotated[int, typer.Option(min=0, help="Faces in the viewer: 70 KB each, 125 KB with three stages.")] = 100,
    evaluation: Annotated[
        Path | None, typer.Option(help="Metrics of the weights' evaluation (evaluation.json), shown beside.")
    ] = None,
) -> None:
    """Labels as one web page: totals, failures by reason, the best and the worst, and a viewer with a light to move.

    The page needs nothing beside it, no network either. Faces are the best, the worst and those evenly between, by
    the labels' own metrics; photographs are cut again from the images that the rows name, grey where they are gone.

    Example: casfne report out/portraits --out out/portraits.html
    """
    from casfne import table
    from casfne.files import write_text
    from casfne.report import page
    from casfne.report.faces import chosen, of_labels, pictured

    frame = table.read(labels)
    shown = of_labels(pictured(labels, chosen(frame, faces)))
    metrics = None if evaluation is None else page.Evaluation(_metrics(evaluation))
    write_text(out, page.render([], shown, metrics, page.Labels(labels, frame)))
    print(f"{out}: {len(shown)} faces, {out.stat().st_size / 1e6:.1f} MB")


def _metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error})") from None
    if not isinstance(found, dict) or not {"by_pixel", "by_image", "images", "people", "pixels"} <= set(found):
        raise InputError(f"{path}: no metrics of an evaluation, as the stage evaluate writes them")
    return found


@figure_app.command()
def stages(labels: Labels, out: Figure, where: Where = None, limit: Rows = 3) -> None:
    """Normals and shading by stage t, as Fig. 3, of labels that were made with --stages.

    Example: casfne figure stages out/portraits --out out/fig3
    """
    from casfne.report import paper

    _print(paper.save(paper.stages_figure(_faces(labels, where, limit, every_stage=True)), out))


@figure_app.command()
def errors(
    samples: Annotated[Path, typer.Argument(help="Folder of samples: index.parquet and archives.")],
    out: Figure,
    weights: Weights = RELEASE,
    split: Annotated[Path | None, typer.Option(help="split.json: test people alone.")] = None,
    limit: Rows = 3,
) -> None:
    """Truth, normals and error maps by stage t, as Fig. 4: an image each of the first people.

    Example: casfne figure errors data/samples --weights data/model/model.safetensors --split data/split.json
    --out out/fig4
    """
    import casfne
    from casfne.corpora.samples import read_index
    from casfne.corpora.split import rows_of
    from casfne.evaluation.evaluate import predictions
    from casfne.evaluation.truths import read_split
    from casfne.report import paper
    from casfne.report.faces import of_sample

    index = read_index(samples)
    rows = index if split is None else rows_of(index, read_split(split), "test")
    rows = rows.drop_duplicates("subject").head(limit)
    predictor = casfne.load(weights, precision="fp32")
    faces = [of_sample(r["sample_id"], sample, n) for r, sample, n in predictions(predictor, samples, rows, 4)]
    _print(paper.save(paper.errors_figure(faces), out))


@figure_app.command()
def relit(
    methods: Annotated[list[str], typer.Argument(help="NAME=LABELS of each method, of the same images.")],
    out: Figure,
    where: Where = None,
    limit: Rows = 3,
) -> None:
    """Normals, shading and the relit photograph of methods side by side, as Fig. 7.

    Example: casfne figure relit ours=out/portraits --out out/fig7
    """
    from casfne.report import paper

    faces = {name: _faces(place, where, limit) for name, place in _named(methods).items()}
    _print(paper.save(paper.relit_figure(faces), out))


@figure_app.command()
def geometry(
    labels: Labels,
    mesh: Annotated[list[str], typer.Option(help="NAME=FILE, an OBJ or PLY of `casfne enhance`; repeat for more.")],
    out: Figure,
    where: Where = None,
) -> None:
    """A photograph and meshes of its face as clay, as Fig. 9. The first face that matches counts.

    Example: casfne figure geometry out/portraits --where "image_id == face.jpg" --mesh ours=out/face.ply --out out/fig9
    """
    from casfne.applied.geometry import read_mesh
    from casfne.report import paper

    (face,) = _faces(labels, where, 1)
    meshes = {name: read_mesh(Path(file)) for name, file in _named(mesh).items()}
    _print(paper.save(paper.geometry_figure(face.photo, meshes), out))


def _named(texts: list[str]) -> dict[str, str]:
    """NAME=PLACE by name."""
    if wrong := [text for text in texts if not text.partition("=")[2]]:
        raise InputError(f"{wrong[0]}: expected NAME=PLACE")
    return {name: place for name, _, place in (text.partition("=") for text in texts)}


def _faces(labels: str, where: list[str] | None, limit: int, every_stage: bool = False) -> list[Any]:
    """The first faces by name, so that several folders of the same images give the same ones."""
    from casfne import table
    from casfne.report.faces import KEY, of_labels, pictured

    matching = [("status", "==", "ok"), *(condition(text) for text in where or [])]
    rows = pictured(labels, table.read(labels, KEY, matching).sort_values(KEY).head(limit))
    if rows.empty:
        raise InputError(f"{labels}: no labelled face matches")
    if every_stage and rows["stages"].isna().any():
        raise InputError(f"{labels}: labels without stages; `casfne label --stages` keeps them")
    return of_labels(rows)


def _print(written: list[Path]) -> None:
    for path in written:
        print(path)
