"""300-W: pictures of any size, each with its 68 points beside it.

01_Indoor/indoor_001.png
01_Indoor/indoor_001.pts        version: 1 / n_points: 68 / { / x y, from 1, a line each / }
"""

from pathlib import Path

import numpy as np

from casfne.corpora.record import Photo, Points, checked, five_points, pictures, require, unique_names
from casfne.errors import InputError


def read(root: Path) -> list[Photo]:
    """Every picture below ``root``, sorted by path; one without points beside it is left to a detector.

    Raises InputError naming the file: no such folder, no points file at all, one that cannot be understood.
    """
    paths = pictures(require(root, "folder"))
    if paths and not any(p.with_suffix(".pts").exists() for p in paths):
        raise InputError(f"{root}: no landmarks file (.pts) beside any of its {len(paths)} images")
    names = unique_names((p, root) for p in paths)
    photos = [
        Photo("300w", name, str(path), _landmarks(path.with_suffix(".pts")))
        for name, path in zip(names, paths, strict=True)
    ]
    return checked(photos, root)


def _landmarks(path: Path) -> Points | None:
    if not path.exists():
        return None
    try:
        inside = path.read_text("utf-8").partition("{")[2].partition("}")[0]
        points = np.array([line.split() for line in inside.split("\n") if line.strip()], np.float64)
        return five_points(points) - 1  # the files count pixels from 1
    except ValueError as error:
        raise InputError(f"{path}: expected 68 lines of x y in braces ({error})") from None
