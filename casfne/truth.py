"""The commands around a truth: truth, which brings a corpus in, and predict, which gives a method's normals of it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casfne.console import RELEASE, Out, Weights, progress
from casfne.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    images: Annotated[str, typer.Argument(help="Face crops, 256x256 as a rule: a folder or an archive (.zip, .tar).")],
    out: Out,
    weights: Weights = RELEASE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Normals of face crops as they are, no face being looked for: <id>.npy, float32 [H, W, 3], frame opengl.

    Of a picture that is no square the centre square is taken as the crop; normals are 0 outside it. Pictures that
    cannot be read are named, the others' normals are written, and the command exits with 1.

    Example: casfne predict out/yale_b/images --out out/ours
    """
    from casfne.files import write_array
    from casfne.model.predictor import load

    found = list(_by_stem(images).items())
    predictor, batch, failures = load(weights, device), 8, list[str]()
    with progress("predict") as bar:
        task = bar.add_task("predict", total=len(found))
        for part in (found[i : i + batch] for i in range(0, len(found), batch)):
            pictures = _read(part, failures)
            normals = predictor.predict_at_source(list(pictures.values())) if pictures else []
            for stem, one in zip(pictures, normals, strict=True):
                write_array(out / f"{stem}.npy", one)
            bar.update(task, advance=len(part))
    print(f"{out}: {len(found) - len(failures)} maps of normals")
    if failures:
        raise InputError(f"{len(failures)} of {len(found)} pictures cannot be read: " + "; ".join(failures[:5]))


def _by_stem(images: str) -> dict[str, str]:
    """Address by name without suffix of every picture. InputError: there is none, or two of one name."""
    from casfne.corpora.record import pictures

    found: dict[str, str] = {}
    for name, path in pictures(images).items():
        stem = Path(name).stem
        if (other := found.setdefault(stem, path)) != path:
            raise InputError(f"{images}: {other} and {path} would both be {stem}.npy")
    if not found:
        raise InputError(f"{images}: no pictures")
    return found


def _read(part: Sequence[tuple[str, str]], failures: list[str]) -> "dict[str, NDArray[np.uint8]]":
    """The pictures at these addresses, by name; why others cannot be read goes to ``failures``."""
    from casfne.corpora.record import photo_bytes
    from casfne.images import decode_image

    found = {}
    for stem, path in part:
        try:
            found[stem] = decode_image(photo_bytes(path), path)
        except InputError as error:
            failures.append(str(error))
    return found


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
