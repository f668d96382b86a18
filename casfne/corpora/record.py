"""The one record that every corpus gives, and what its readers share."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from casfne import images
from casfne.errors import InputError

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Photo:
    """One picture of a corpus, light enough to hold by the million: nothing of it has been read.

    points: float64 [5, 2], x and y in pixels counted from 0 at the centre of the first pixel: left eye, right
    eye (as seen in the picture), nose tip, left and right mouth corner; None leaves the face to a detector.
    """

    corpus: str
    image_id: str  # unique in its corpus
    path: str  # as the corpus was named: relative to the working directory where that was
    points: Points | None = None


def five_points(points: ArrayLike) -> Points:
    """Five points of a face, float64 [5, 2], from the 68 of the iBUG scheme [68, 2]; ValueError otherwise.

    Each eye is the mean of its six points; 36 to 41 is the eye on the picture's left.
    """
    p = np.asarray(points, np.float64)
    if p.shape != (68, 2):
        raise ValueError(f"expected 68 points [68, 2], got shape {p.shape}")
    return np.stack([p[36:42].mean(0), p[42:48].mean(0), p[30], p[48], p[54]])


def pictures(folder: Path) -> list[Path]:
    """Every file below ``folder``, at any depth, with the suffix of a picture, sorted; hidden ones left out."""
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        kept = (name for name in files if os.path.splitext(name)[1].lower() in images.SUFFIXES)
        found += [os.path.join(base, name) for name in kept if not name.startswith(".")]
    return [Path(path) for path in sorted(found)]


def unique_names(paths: Iterable[tuple[Path, Path]]) -> list[str]:
    """A name for each (file, root): its path below the root without suffix, as long as no other has that.

    Those that share a name get their suffix, and if they still share it, their whole path.
    """
    choices = [
        (p.relative_to(root).with_suffix("").as_posix(), p.relative_to(root).as_posix(), p.as_posix())
        for p, root in paths
    ]
    level = [0] * len(choices)
    while True:
        names = [choice[i] for choice, i in zip(choices, level, strict=True)]
        count = Counter(names)
        shared = [k for k, name in enumerate(names) if count[name] > 1 and level[k] < 2]
        if not shared:
            return names
        for k in shared:
            level[k] += 1


def require(path: Path, what: str) -> Path:
    """``path`` if it is there; InputError naming it and saying what was expected otherwise."""
    if not path.exists():
        raise InputError(f"{path}: no such {what}")
    return path


def checked(photos: list[Photo], root: Path) -> list[Photo]:
    """The photos of a corpus; InputError naming its root when there are none or two bear one id."""
    if not photos:
        raise InputError(f"{root}: no images found")
    by_id: dict[str, str] = {}
    for photo in photos:
        if (other := by_id.setdefault(photo.image_id, photo.path)) != photo.path:
            raise InputError(f"{root}: {other} and {photo.path} are both image {photo.image_id!r}")
    return photos
