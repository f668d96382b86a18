"""Labelling without a fleet: photographs to faces, faces to normals, normals to rows of `casfne.table`.

The three steps are apart because they want different machines: `decode` a CPU, `predict` the model, `to_row` a
CPU again. None of them raises on account of a picture: what went wrong becomes the status of its row.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from casfne import images, normals
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.images import Crop
from casfne.labelling import faces, quality
from casfne.provenance import code_version

CODE = ("model", "labelling", "images.py", "normals.py", "table.py")  # a change makes labels stale
NO_FACE_INDEX = -1  # the face index of the one row of an image that gave no face


class Predictor(Protocol):
    """What labelling needs of a trained model."""

    name: str
    sha256: str  # of the weights file
    refinements: int
    precision: str

    def predict_stages(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """RGB crops uint8 [N, 256, 256, 3] to the normals of every stage, float32 [N, T+1, 256, 256, 3]."""

    def expected_error(self, last_move_deg: NDArray, /) -> NDArray:
        """How far the last refinement moved, degrees [N], to the error to expect, degrees [N]; NaN: unknown."""


@dataclass(frozen=True)
class Identity:
    """What made a label; every row carries it."""

    model: str
    weights_sha256: str
    code_version: str
    refinements: int
    precision: str

    @classmethod
    def of(cls, predictor: Predictor) -> "Identity":
        """The identity of a loaded predictor, with the version of the code that labelling runs through."""
        p = predictor
        return cls(p.name, p.sha256, code_version(*CODE), p.refinements, p.precision)


@dataclass(frozen=True)
class Face:
    """One row in the making: a face, or an image that gave none (no crop, no pixels, index -1)."""

    photo: Photo
    face_index: int
    status: str  # ok, no_face, unreadable, error
    reason: str
    size: tuple[int, int] | None = None  # height and width of the photograph
    crop: Crop | None = None
    pixels: NDArray[np.uint8] | None = None  # RGB [256, 256, 3]
    seconds: float = 0.0


@dataclass(frozen=True)
class Labelled:
    """A face with what the model said: 8-bit normals [256, 256, 3], mask bool [256, 256], numbers by column."""

    face: Face
    normal: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None
    numbers: dict[str, float] | None = None


def decode(photo: Photo, detector: faces.Detector, folder: Path | str = "") -> list[Face]:
    """The faces of a photograph, largest first; at least one entry, whatever happens.

    ``folder``: where a relative path starts. A file that is missing, empty, truncated or no image becomes
    "unreadable", one without a face "no_face", anything unforeseen "error".
    """
    start = time.perf_counter()
    found = _decode(photo, detector, Path(folder) / photo.path)
    share = (time.perf_counter() - start) / len(found)
    return [replace(face, seconds=share) for face in found]


def _decode(photo: Photo, detector: faces.Detector, path: Path) -> list[Face]:
    try:
        image = images.read_image(path)
        crops = faces.find(image, photo, detector)
        size = (image.shape[0], image.shape[1])
        found = [Face(photo, i, "ok", "", size, crop, crop.apply(image)) for i, crop in enumerate(crops)]
        return found or [Face(photo, NO_FACE_INDEX, "no_face", "the detector found no face", size)]
    except InputError as error:  # the path is a column of its own, and differs between machines
        return [Face(photo, NO_FACE_INDEX, "unreadable", str(error).removeprefix(f"{path}: "))]
    except Exception as error:
        return [failed(photo, f"{type(error).__name__}: {error}")]


def failed(photo: Photo, reason: str) -> Face:
    """The entry of an image that could not be treated for a reason that is not its own."""
    return Face(photo, NO_FACE_INDEX, "error", reason)


def predict(found: Sequence[Face], predictor: Predictor, batch: int) -> list[Labelled]:
    """What the model says about each face, in order; entries that are not "ok" pass through.

    At most ``batch`` crops go to the model at once. When it fails on several, each is tried alone; the one that
    fails alone becomes "error" and keeps its face index.
    """
    faces_found = [face for face in found if face.status == "ok"]
    groups = [faces_found[i : i + batch] for i in range(0, len(faces_found), batch)]
    done = iter([labelled for group in groups for labelled in _attempt(group, predictor)])
    return [next(done) if face.status == "ok" else Labelled(face) for face in found]


def _attempt(group: Sequence[Face], predictor: Predictor) -> list[Labelled]:
    start = time.perf_counter()
    try:
        stages = predictor.predict_stages(np.stack([f.pixels for f in group if f.pixels is not None]))
        measured = [_measure(face, s, predictor) for face, s in zip(group, stages, strict=True)]
    except Exception as error:
        if len(group) > 1:
            return [labelled for face in group for labelled in _attempt([face], predictor)]
        return [Labelled(replace(group[0], status="error", reason=f"{type(error).__name__}: {error}"))]
    share = (time.perf_counter() - start) / len(group)
    return [replace(m, face=replace(m.face, seconds=m.face.seconds + share)) for m in measured]


def _measure(face: Face, stages: NDArray[np.float32], predictor: Predictor) -> Labelled:
    """One face's stages [T+1, 256, 256, 3] as its entry."""
    assert face.crop and face.size and face.pixels is not None  # every face that is "ok" has them
    if not np.isfinite(stages).all():
        raise ValueError("the model gave normals that are not finite")
    mask, last = quality.face_mask(face.crop, *face.size), stages[-1]
    moved = quality.last_move_deg(stages, mask)
    numbers = {
        "last_move_deg": moved,
        "coverage": quality.coverage(mask),
        "roughness_deg": quality.roughness_deg(last, mask),
        "facing_away": quality.facing_away(last, mask),
        "sharpness": quality.sharpness(face.pixels),
        "exposure": quality.exposure(face.pixels, mask),
        "confidence_deg": float(predictor.expected_error(np.array([moved], np.float32))[0]),
    }
    return Labelled(face, normals.encode(last, mask), mask, numbers)


def to_row(labelled: Labelled, identity: Identity) -> dict[str, Any]:
    """An entry as a row of `casfne.table`, its pictures as PNG; what is unknown (NaN) becomes None."""
    face, numbers = labelled.face, labelled.numbers or {}
    height, width = face.size or (None, None)
    row: dict[str, Any] = {
        "corpus": face.photo.corpus,
        "image_id": face.photo.image_id,
        "path": face.photo.path,
        "face_index": face.face_index,
        "status": face.status,
        "reason": face.reason,
        "source_height": height,
        "source_width": width,
        "normal": _picture(labelled.normal),
        "mask": _picture(None if labelled.mask is None else labelled.mask.astype(np.uint8) * 255),
        "seconds": face.seconds,
    }
    row.update((name, value if np.isfinite(value) else None) for name, value in numbers.items())
    return row | _window(face.crop) | vars(identity)


def _window(crop: Crop | None) -> dict[str, Any]:
    if crop is None:
        return {}
    transform = crop.transform().ravel().tolist()
    return {"crop_left": crop.left, "crop_top": crop.top, "crop_side": crop.side, "crop_to_image": transform}


def _picture(image: NDArray[np.uint8] | None) -> dict[str, Any] | None:
    return None if image is None else {"bytes": images.encode_image(image), "path": None}
