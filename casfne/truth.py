"""The commands around a truth: truth, which brings a corpus in, and predict, which gives a method's normals of it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casfne.console import RELEASE, Out, Weights, progress
from casfne.errors import InputError

if TYPE_CHECKING:
    from casfne.corpora.truths import Cutter, Job, Split

truth_app = typer.Typer()
KINDS = ("photoface", "florence", "ict3drfe", "yale_b", "studio")
_SPLIT, _FOUND, _RENDERED = ("photoface", "studio"), ("florence", "ict3drfe"), ("florence",)


@truth_app.command()
def truth(
    kind: Annotated[str, typer.Argument(help="Of the corpus: photoface, florence, ict3drfe, yale_b or studio.")],
    root: Annotated[
        Path,
        typer.Argument(
            help="Its folder; of photoface also the samples of `dvc repro prepare`, of studio those of "
            "`casfne studio render`."
        ),
    ],
    out: Out,
    split: Annotated[
        Path | None, typer.Option(help="Of photoface and studio: split of the people; its test people alone.")
    ] = None,
    pose: Annotated[
        list[str] | None, typer.Option(help="Of florence: YAW,PITCH in degrees; repeat. Default: 0,0 30,0 -30,0.")
    ] = None,
    light: Annotated[
        list[str] | None,
        typer.Option(help="Of florence: AZIMUTH,ELEVATION in degrees; repeat. Default: 0,0 45,20 -45,20."),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="Of florence and ict3drfe: YuNet's ONNX file, in place of dlib's detector.")
    ] = None,
) -> None:
    """A corpus with known normals as a truth: samples that `casfne compare --truth` takes, and images/<id>.png, the
    crops that any method can be run on.

    Example: casfne truth yale_b ../shared/data/yale_b --out out/yale_b
    """
    from casfne.corpora.truths import write_truth

    if kind not in KINDS:
        raise InputError(f"{kind!r}: expected one of {', '.join(KINDS)}")
    given = {"--split": (split, _SPLIT), "--pose": (pose, _RENDERED), "--light": (light, _RENDERED)}
    for option, (value, kinds) in (given | {"--detector": (detector, _FOUND)}).items():
        if value and kind not in kinds:
            raise InputError(f"{option}: says nothing of {kind}, only of {' and '.join(kinds)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    jobs = _jobs(kind, root, out, split, (pose, light), detector)
    with progress("truth") as bar:
        task = bar.add_task("truth", total=len(jobs))
        images, failures = write_truth(out, jobs, lambda: bar.update(task, advance=1))
    print(f"{out}: {images} images of {len(jobs) - len(failures)} captures; their crops are in {out / 'images'}")
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        raise InputError(f"{len(failures)} of {len(jobs)} captures cannot be used; {out} holds the others")


@truth_app.command()
def predict(
    images: Annotated[Path, typer.Argument(help="Folder of face crops: .png, .jpg, .bmp or .tif, 256x256 as a rule.")],
    out: Out,
    weights: Weights = RELEASE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Normals of face crops as they are, no face being looked for: <id>.npy, float32 [H, W, 3], frame opengl.

    Of a picture that is no square the centre square is taken as the crop; normals are 0 outside it.

    Example: casfne predict out/yale_b/images --out out/ours
    """
    from casfne.corpora.record import by_file
    from casfne.files import write_array
    from casfne.images import read_image
    from casfne.model.predictor import load

    _, found = by_file(str(images))
    if not found:
        raise InputError(f"{images}: no pictures")
    predictor, paths, batch = load(weights, device), sorted(found.items()), 8
    with progress("predict") as bar:
        task = bar.add_task("predict", total=len(paths))
        for part in (paths[i : i + batch] for i in range(0, len(paths), batch)):
            normals = predictor.predict_at_source([read_image(path) for _, path in part])
            for (name, _), one in zip(part, normals, strict=True):
                write_array(out / f"{Path(name).stem}.npy", one)
            bar.update(task, advance=len(part))
    print(f"{out}: {len(paths)} maps of normals")


def _jobs(
    kind: str,
    root: Path,
    out: Path,
    split: Path | None,
    angles: tuple[list[str] | None, list[str] | None],
    detector: Path | None,
) -> "list[Job]":
    from casfne.corpora import florence, ict3drfe, truths, yale_b
    from casfne.corpora.samples import INDEX

    if kind == "yale_b":
        return yale_b.yale_b_jobs(root, out)
    if kind in _SPLIT:
        made = kind == "studio" or (root / INDEX).is_file()
        return (truths.sample_jobs if made else truths.photoface_jobs)(root, out, _people(split))
    cutter = _cutter(detector)
    if kind == "ict3drfe":
        return ict3drfe.ict3drfe_jobs(root, out, cutter)
    poses, lights = (_pairs(given) for given in angles)
    return florence.florence_jobs(root, out, cutter, poses or florence.POSES, lights or florence.LIGHTS)


def _people(split: Path | None) -> "Split | None":
    from casfne.evaluation.truths import read_split

    return None if split is None else read_split(split)


def _cutter(detector: Path | None) -> "Cutter":
    """Faces as `casfne label` cuts them out."""
    from casfne.corpora.truths import Cutter
    from casfne.labelling.faces import Dlib, YuNet
    from casfne.labelling.quality import oval

    return Cutter(Dlib() if detector is None else YuNet(detector), oval())


def _pairs(given: Sequence[str] | None) -> list[tuple[float, float]]:
    """Angles from texts like "30,-10"; InputError for another form, or angles of 90 degrees and more."""
    found = []
    for text in given or []:
        try:
            first, second = (float(value) for value in text.split(","))
        except ValueError:
            raise InputError(f"{text!r}: expected two angles in degrees, as in 30,-10") from None
        if not (abs(first) < 90 and abs(second) < 90):
            raise InputError(f"{text!r}: expected angles below 90 degrees, either way")
        found.append((first, second))
    return found
