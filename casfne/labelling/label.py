"""Labelling without a fleet: photographs to faces, faces to normals, normals to rows of `casfne.table`.

The three steps are apart because they want different machines: `decode` a CPU, `predict` the model, `to_row` a
CPU again. None of them raises on account of a picture: what went wrong becomes the status of its row.
"""

import functools
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne import images, normals, octahedral, schema, sources
from casfne.corpora.record import Photo, photo_bytes
from casfne.errors import InputError
from casfne.images import Crop
from casfne.labelling import faces, quality
from casfne.provenance import code_version

# a change of these makes labels stale
CODE = ("model", "labelling", "images.py", "normals.py", "schema.py", "octahedral.py", "sources")
NO_FACE_INDEX = -1  # the face index of the one row of an image that gave no face
RELIT_LIGHT = normals.direction(-40, 35)  # of the thumbnail: from the upper left
RELIT_SIZE = 128  # pixels


@dataclass(frozen=True)
class Options:
    """What a row is to hold besides its numbers; part of what decides a label's bytes.

    encoding: a key of `casfne.schema.ENCODINGS`. stages: the normals of every stage too, as PNG. relit: a thumbnail
    of the normals as a matte white face. InputError naming an unknown encoding.
    """

    encoding: str = "png8"
    stages: bool = False
    relit: bool = False

    def __post_init__(self) -> None:
        if self.encoding not in schema.ENCODINGS:
            raise InputError(f"encoding {self.encoding!r}: expected one of {', '.join(schema.ENCODINGS)}")


DEFAULT = Options()


class Predictor(Protocol):
    """What labelling needs of a trained model."""

    name: str
    sha256: str  # of the weights file
    refinements: int
    precision: str

    def assess(self, crops: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """RGB crops uint8 [N, 256, 256, 3] to the normals of every stage, float32 [N, T+1, 256, 256, 3], and the error
        to expect of the last, degrees [N, 256, 256]; NaN: unknown."""


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
    reason_code: str | None = None  # a key of `casfne.schema.REASONS`; None where it is ok
    blockiness: float = float("nan")  # of the photograph, which is gone when the rest is measured
    checksum: int | None = None  # of the photograph's bytes, see `checksum`; None where they were not read


@dataclass(frozen=True)
class Labelled:
    """A face with what the model said: normals as they are to be encoded (uint8 [256, 256, 3], or octahedral codes
    uint16 [256, 256, 2]), mask bool [256, 256], numbers by column; on request each stage's normals uint8
    [256, 256, 3], and the thumbnail uint8 [128, 128]."""

    face: Face
    normal: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    mask: NDArray[np.bool_] | None = None
    numbers: dict[str, float | bool] | None = None
    stages: tuple[NDArray[np.uint8], ...] | None = None
    relit: NDArray[np.uint8] | None = None


def decode(photo: Photo, detector: faces.Detector, folder: Path | str = "") -> list[Face]:
    """The faces of a photograph, largest first; at least one entry, whatever happens.

    ``folder``: where a relative path starts. A file that is missing, empty, truncated or no image becomes
    "unreadable", one without a face "no_face", anything unforeseen "error"; `reason_code` says which.
    """
    start = time.perf_counter()
    path, data = sources.located(photo.path, str(folder)), None
    try:
        data = photo_bytes(path)
        found = _decode(photo, detector, data, path)
    except images.PictureError as error:  # the path is a column of its own, and differs between machines
        found = [failed(photo, str(error).removeprefix(f"{path}: "), error.code)]
    except Exception as error:
        found = [_failed(photo, error)]
    share = (time.perf_counter() - start) / len(found)
    return [replace(face, seconds=share, checksum=None if data is None else zlib.crc32(data)) for face in found]


def checksum(photo: Photo) -> int | None:
    """Of the photograph's bytes as they are now, CRC-32; None where they cannot be read."""
    try:
        return zlib.crc32(photo_bytes(photo.path))
    except images.PictureError:
        return None


def _decode(photo: Photo, detector: faces.Detector, data: bytes, path: str) -> list[Face]:
    image = images.decode_image(data, path)
    crops = faces.find(image, photo, detector)
    size = (image.shape[0], image.shape[1])
    if not crops:
        return [Face(photo, NO_FACE_INDEX, "no_face", "the detector found no face", size, reason_code="no_face")]
    return [_cut(photo, i, image, crop) for i, crop in enumerate(crops)]


def _cut(photo: Photo, index: int, image: NDArray[np.uint8], crop: Crop) -> Face:
    size = (image.shape[0], image.shape[1])
    return Face(photo, index, "ok", "", size, crop, crop.apply(image), blockiness=quality.blockiness(image, crop))


def failed(photo: Photo, reason: str, code: str = "unexpected") -> Face:
    """The entry of an image that could not be treated, with a code of `casfne.schema.REASONS`."""
    return Face(photo, NO_FACE_INDEX, schema.REASONS[code].status, reason, reason_code=code)


def _failed(photo: Photo, error: Exception) -> Face:
    if isinstance(error, faces.LocationError):
        return failed(photo, str(error), "bad_location")
    return failed(photo, _said(error), "out_of_memory" if _is_memory(error) else "unexpected")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _is_memory(error: Exception) -> bool:
    """Python's own error, and torch's, which comes under a name of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "_ArrayMemoryError")


def predict(found: Sequence[Face], predictor: Predictor, batch: int, options: Options = DEFAULT) -> list[Labelled]:
    """What the model says about each face, in order; entries that are not "ok" pass through.

    At most ``batch`` crops go to the model at once. When it fails on several, each is tried alone; the one that
    fails alone becomes "error" and keeps its face index.
    """
    faces_found = [face for face in found if face.status == "ok"]
    groups = [faces_found[i : i + batch] for i in range(0, len(faces_found), batch)]
    done = iter([labelled for group in groups for labelled in _attempt(group, predictor, options)])
    return [next(done) if face.status == "ok" else Labelled(face) for face in found]


def _attempt(group: Sequence[Face], predictor: Predictor, options: Options) -> list[Labelled]:
    start = time.perf_counter()
    try:
        assessed = predictor.assess(np.stack([f.pixels for f in group if f.pixels is not None]))
        measured = [_measure(face, s, e, options) for face, s, e in zip(group, *assessed, strict=True)]
    except Exception as error:
        if len(group) > 1:
            return [labelled for face in group for labelled in _attempt([face], predictor, options)]
        code = "out_of_memory" if _is_memory(error) else "model_failed"
        return [Labelled(replace(group[0], status="error", reason=_said(error), reason_code=code))]
    share = (time.perf_counter() - start) / len(group)
    return [replace(m, face=replace(m.face, seconds=m.face.seconds + share)) for m in measured]


def _measure(
    face: Face, stages: NDArray[np.float32], expected_deg: NDArray[np.float32], options: Options = DEFAULT
) -> Labelled:
    """One face's stages [T+1, 256, 256, 3] and expected error [256, 256] as its entry."""
    assert face.crop and face.size and face.pixels is not None  # every face that is "ok" has them
    if not np.isfinite(stages).all():
        raise ValueError("the model gave normals that are not finite")
    mask, last = quality.face_mask(face.crop, *face.size), stages[-1]
    return Labelled(
        face,
        encode_png8(last, mask) if options.encoding == "png8" else octahedral.codes_of(last, mask),
        mask,
        _numbers(face, stages, mask, expected_deg),
        tuple(encode_png8(stage, mask) for stage in stages) if options.stages else None,
        _relit(last, mask) if options.relit else None,
    )


def _numbers(
    face: Face, stages: NDArray[np.float32], mask: NDArray[np.bool_], expected_deg: NDArray[np.float32]
) -> dict[str, float | bool]:
    assert face.crop and face.pixels is not None
    last, pixels = stages[-1], face.pixels
    moved, angles = quality.last_move_deg(stages, mask), quality.Angles.of(last, mask)
    numbers = {
        "last_move_deg": moved,
        "coverage": quality.coverage(mask),
        "roughness_deg": angles.mean(),
        "facing_away": quality.facing_away(last, mask),
        "sharpness": quality.sharpness(pixels),
        "exposure": quality.exposure(pixels, mask),
        "confidence_deg": quality.mean(expected_deg[mask]),
        "clipped": quality.clipped(pixels, mask),
        "dark": quality.dark(pixels, mask),
        "imbalance": quality.imbalance(pixels, mask),
        "blockiness": face.blockiness,
        "disturbed": quality.disturbed(angles),
        "yaw_deg": quality.yaw_deg(last, mask),
    }
    flags = {
        "extreme_light": quality.extreme_light(numbers["clipped"], numbers["dark"], numbers["imbalance"]),
        "occluded": quality.occluded(numbers["disturbed"], numbers["coverage"]),
        "low_quality": quality.low_quality(face.crop.side, numbers["sharpness"], face.blockiness),
        "profile": quality.profile(numbers["yaw_deg"], face.photo.points),
    }
    return numbers | flags


def encode_png8(normal: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`casfne.normals.encode` of a map [H, W, 3], ten times as quick; they differ by a level in rare ties."""
    picture = cv2.convertScaleAbs(normal, alpha=127.5, beta=127.5)  # no vector is below -1, where this would fold
    outside = np.full_like(picture, 128)
    return np.asarray(cv2.copyTo(picture, mask.astype(np.uint8), outside), np.uint8)


def _relit(normal: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The thumbnail, uint8 [128, 128]."""
    small = normals.normalise(images.resize(normal, RELIT_SIZE))
    share = images.resize(mask.astype(np.float32), RELIT_SIZE)
    return np.ascontiguousarray(images.shade(small, RELIT_LIGHT, share)[..., 0])


def to_row(labelled: Labelled, identity: Identity, options: Options = DEFAULT) -> dict[str, Any]:
    """An entry as a row of `casfne.table`, its pictures as PNG; what is unknown (NaN) becomes None."""
    face, numbers = labelled.face, labelled.numbers or {}
    height, width = face.size or (None, None)
    row: dict[str, Any] = dict.fromkeys(schema.COLUMNS)
    row |= {
        "corpus": face.photo.corpus,
        "image_id": face.photo.image_id,
        "path": face.photo.path,
        "face_index": face.face_index,
        "status": face.status,
        "reason": face.reason,
        "reason_code": face.reason_code,
        "source_height": height,
        "source_width": width,
        "mask": None if labelled.mask is None else _struct(_mask_png(labelled.mask.tobytes(), labelled.mask.shape)),
        "stages": labelled.stages and [_picture(stage) for stage in labelled.stages],
        "relit": _picture(labelled.relit),
        "seconds": face.seconds,
    }
    row.update((name, value if np.isfinite(value) else None) for name, value in numbers.items())
    return row | _normal(labelled, options) | _window(face.crop) | vars(identity)


def _normal(labelled: Labelled, options: Options) -> dict[str, Any]:
    if labelled.normal is None:
        return {}
    if options.encoding == "octahedral":
        return {"normal_octahedral": octahedral.pack(np.asarray(labelled.normal, np.uint16))}
    return {"normal": _picture(np.asarray(labelled.normal, np.uint8))}


def _window(crop: Crop | None) -> dict[str, Any]:
    if crop is None:
        return {}
    transform = crop.transform().ravel().tolist()
    return {"crop_left": crop.left, "crop_top": crop.top, "crop_side": crop.side, "crop_to_image": transform}


def _picture(image: NDArray[np.uint8] | None) -> dict[str, Any] | None:
    return None if image is None else _struct(images.encode_image(image, smooth=True))


def _struct(png: bytes) -> dict[str, Any]:
    return {"bytes": png, "path": None}


@functools.lru_cache(maxsize=64)
def _mask_png(mask: bytes, shape: tuple[int, int]) -> bytes:
    """The PNG of a mask; most are the whole oval, and made once."""
    return images.encode_image(np.frombuffer(mask, np.uint8).reshape(shape) * np.uint8(255), smooth=True)
