"""Captures on disk: one face under several known lights. Each reader gives the same record."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.images import read_image
from casfne.stereo.lights import read_light_source, yale_light

PHOTOFACE_IMAGES = tuple(f"im{i}.bmp" for i in range(4))
_SUBJECT, _SESSION = re.compile(r"\d{4}"), re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")
_ATTRIBUTES = ("gender", "spectacles", "facial_hair", "pose", "quality", "occlusion", "emotion")


@dataclass(frozen=True)
class Capture:
    """One face under L lights, from a camera that does not move.

    ``images`` float32 [L, H, W, 3], linear light in 0..1, ambient light taken off where it is known;
    ``lights`` float32 [L, 3], unit, frame opengl; ``points`` float64 [11, 2] as x, y in pixels (Photoface's
    face points) or None; ``attributes`` what the corpus says of the session.
    """

    name: str
    images: NDArray[np.float32]
    lights: NDArray[np.float32]
    points: NDArray[np.float64] | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def grey(self) -> NDArray[np.float32]:
        """Mean of the colours, [L, H, W]."""
        return self.images.mean(-1)


def open_capture(path: Path | str) -> Capture:
    """A capture from its folder: a Photoface session or a Yale B person. InputError where it is neither."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (folder / "LightSource.m").exists() or any((folder / name).exists() for name in PHOTOFACE_IMAGES):
        return read_photoface(folder)
    if any(folder.glob("*.pgm")):
        return read_yale_b(folder)
    raise InputError(f"{folder}: neither a Photoface session (im0.bmp, LightSource.m) nor a Yale B person (*.pgm)")


def find_sessions(root: Path | str) -> list[Path]:
    """The sessions of a Photoface tree, `<subject>/<session>`, sorted. InputError when there is none."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected a Photoface tree <subject>/<session>")
    people = (d for d in root.iterdir() if d.is_dir() and _SUBJECT.fullmatch(d.name))
    found = [s for person in people for s in person.iterdir() if s.is_dir() and _SESSION.fullmatch(s.name)]
    if not found:
        raise InputError(f"{root}: no session <4 digits>/<YYYY-MM-DD_HH-MM-SS> in it")
    return sorted(found)


def read_photoface(folder: Path | str) -> Capture:
    """A Photoface session; its images are taken as linear. InputError naming what is missing or unreadable."""
    folder = Path(folder)
    missing = [name for name in (*PHOTOFACE_IMAGES, "LightSource.m") if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: incomplete session, no {', '.join(missing)}")
    lights = read_light_source(folder / "LightSource.m")
    points = read_points(folder / "metadata.txt") if (folder / "metadata.txt").is_file() else None
    images = _stack([folder / name for name in PHOTOFACE_IMAGES])
    return Capture(f"{folder.parent.name}_{folder.name}", images, lights, points, read_attributes(folder))


def read_points(path: Path | str) -> NDArray[np.float64]:
    """The 11 face points of metadata.txt, float64 [11, 2] as x, y in pixels."""
    text = Path(path).read_text(encoding="latin-1")
    try:
        values = np.array([float(v) for v in re.split(r"[\s,;]+", text.strip())])
    except ValueError:
        raise InputError(f"{path}: expected x and y of 11 points, found words") from None
    if values.size != 22:
        raise InputError(f"{path}: expected x and y of 11 points, found {values.size} numbers")
    return values.reshape(11, 2)


def five_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Photoface's 11 points as the five of the crop convention: eyes, nose tip, mouth corners, [5, 2].

    Eyes and mouth corners are ordered by x, so that "left" is the picture's whatever the file meant.
    """
    eyes = sorted([points[:2].mean(0), points[3:5].mean(0)], key=lambda p: float(p[0]))
    mouth = sorted(points[8:10], key=lambda p: float(p[0]))
    return np.stack([*eyes, points[6], *mouth])


def read_attributes(folder: Path | str) -> dict[str, str]:
    """The named fields of metadataII.txt that are not empty; none where the file is missing."""
    path = Path(folder) / "metadataII.txt"
    if not path.is_file():
        return {}
    values = [v.strip() for v in path.read_text(encoding="latin-1").strip().split(",")]
    return {name: value for name, value in zip(_ATTRIBUTES, values, strict=False) if value}


def read_yale_b(folder: Path | str) -> Capture:
    """An Extended Yale B person: `*A+035E-20.pgm`, one light each; `*Ambient.pgm` is taken off, never below 0."""
    folder = Path(folder)
    lit = sorted(p for p in folder.glob("*.pgm") if "Ambient" not in p.stem)
    if not lit:
        raise InputError(f"{folder}: no image under a light (*A+000E+00.pgm)")
    lights = np.stack([yale_light(p.stem) for p in lit])
    images = _stack(lit)
    for ambient in folder.glob("*Ambient.pgm"):
        images = np.maximum(images - _stack([ambient, lit[0]])[0], 0)
    return Capture(folder.name, images, lights)


def _stack(paths: list[Path]) -> NDArray[np.float32]:
    """Pictures of one size as float32 [N, H, W, 3] in 0..1; InputError naming the first of another size."""
    pictures = [read_image(p) for p in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (picture, pictures[0])]
            raise InputError(f"{path}: {sizes[0]} pixels, but {paths[0].name} has {sizes[1]}")
    return np.stack(pictures).astype(np.float32) / np.float32(255)
