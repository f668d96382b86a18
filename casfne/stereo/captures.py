"""Captures: one face under several known lights. Every reader gives this record.

`open_capture` knows the readers: photoface.py, yale_b.py, lights_csv.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.images import read_pixels

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

NOTES = "notes"  # the attribute that names what a reader left out, and why

_ALL = slice(None)
_TILE = 1 << 24  # values that `grey` turns to floats at a time


@dataclass(frozen=True, eq=False)
class Capture:
    """One face under L lights, from a camera that does not move.

    images: uint8 or uint16 [L, H, W, C], C = 1 or 3, linear in light, as the files hold them; white: the value of full
    scale; ambient: the picture without lamps, [H, W, C] of the same type, or None.
    lights: float32 [L, 3], unit, from the middle of the face, frame opengl; positions: float32 [L, 3], of the lamps in
    metres from the middle of the face, or None where they are far or not known.
    points: float64 [11, 2], Photoface's face points as x, y in pixels, or None; attributes: what the corpus says of
    the session. authors_normals: float32 [H, W, 3], unit or 0 where there is none, frame opengl, and authors_albedo:
    float32 [H, W]: results that lie beside the pictures, or None.
    ValueError where shapes or types do not fit.
    """

    name: str
    images: Pixels
    lights: Floats
    white: float = 255.0
    ambient: Pixels | None = None
    points: NDArray[np.float64] | None = None
    positions: Floats | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    authors_normals: Floats | None = None
    authors_albedo: Floats | None = None

    def __post_init__(self) -> None:
        shape, kind = self.images.shape, self.images.dtype
        if len(shape) != 4 or shape[3] not in (1, 3) or kind not in (np.uint8, np.uint16):
            raise ValueError(f"expected images [L, H, W, 1 or 3] of uint8 or uint16, got {shape} of {kind}")
        expected = {
            "lights": (shape[0], 3),
            "positions": (shape[0], 3),
            "ambient": shape[1:],
            "points": (11, 2),
            "authors_normals": (*shape[1:3], 3),
            "authors_albedo": shape[1:3],
        }
        for name, wanted in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != wanted:
                raise ValueError(f"{name}: expected {wanted} for images {shape}, got {value.shape}")
        if self.ambient is not None and self.ambient.dtype != kind:
            raise ValueError(f"ambient: expected {kind}, got {self.ambient.dtype}")

    def linear(self, rows: slice = _ALL, lights: slice = _ALL) -> Floats:
        """Light in 0..1, float32 [L, h, W, C]: the ambient picture taken off, never below 0."""
        values = self.images[lights, rows].astype(np.float32)
        if self.ambient is not None:
            values -= self.ambient[rows]
            np.maximum(values, 0, out=values)
        values /= np.float32(self.white)
        return values

    @property
    def grey(self) -> Floats:
        """The mean of the colours of `linear`, float32 [L, H, W]."""
        count, height, width, colours = self.images.shape
        grey = np.empty((count, height, width), np.float32)
        step = max(1, _TILE // (count * width * colours))
        for top in range(0, height, step):
            rows = slice(top, top + step)
            grey[:, rows] = self.linear(rows).mean(-1)
        return grey


def open_capture(path: Path | str, light_distance_m: float | None = None) -> Capture:
    """A capture from its folder: a Photoface session, a Yale B person, or pictures with a lights.csv.

    light_distance_m: how far the lamps are from the middle of the face, for captures that do not say where theirs are.
    InputError where the folder is none of these.
    """
    from casfne.stereo.lights_csv import read_lights_csv  # readers import this module
    from casfne.stereo.photoface import looks_like_photoface, read_photoface
    from casfne.stereo.yale_b import read_yale_b

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (folder / "lights.csv").exists():
        return with_lamps_at(read_lights_csv(folder), light_distance_m)
    if looks_like_photoface(folder):
        return read_photoface(folder, light_distance_m)
    if any(folder.glob("*.pgm")):
        return with_lamps_at(read_yale_b(folder), light_distance_m)
    raise InputError(
        f"{folder}: neither a Photoface session (im0.bmp, LightSource.m) nor a Yale B person (*.pgm) nor pictures with"
        " a lights.csv"
    )


def with_lamps_at(capture: Capture, distance_m: float | None) -> Capture:
    """The capture with its lamps ``distance_m`` from the middle of the face, each in its direction.

    Unchanged where the distance is None or the positions are known. InputError for a distance that is not above 0.
    """
    if distance_m is None or capture.positions is not None:
        return capture
    if not 0 < distance_m < np.inf:
        raise InputError(f"distance of the lamps: {distance_m:g} m, expected above 0")
    return replace(capture, positions=(capture.lights * np.float32(distance_m)).astype(np.float32))


def stack(paths: Sequence[Path]) -> Pixels:
    """Pictures of one size and type as [N, H, W, C], in that type; InputError naming the first that differs."""
    first = read_pixels(paths[0])
    pictures = np.empty((len(paths), *first.shape), first.dtype)  # filled one by one: a list would hold all twice
    pictures[0] = first
    for i, path in enumerate(paths[1:], start=1):
        picture = read_pixels(path)
        if picture.shape != first.shape or picture.dtype != first.dtype:
            raise InputError(f"{path}: {_differences(picture, first, paths[0].name)}")
        pictures[i] = picture
    return pictures


def full_scale(pixels: Pixels) -> float:
    """The largest value of the type: 255 or 65535."""
    return float(np.iinfo(pixels.dtype).max)


def _differences(picture: Pixels, first: Pixels, name: str) -> str:
    if picture.shape[:2] != first.shape[:2]:
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (picture, first)]
        return f"{sizes[0]} pixels, but {name} has {sizes[1]}"
    kinds = [f"{8 * p.dtype.itemsize}-bit {'grey' if p.shape[2] == 1 else 'colour'}" for p in (picture, first)]
    return f"{kinds[0]}, but {name} is {kinds[1]}"
