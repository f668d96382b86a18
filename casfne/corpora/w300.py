"""300-W: pictures of any size, each with its 68 points beside it.

01_Indoor/indoor_001.png
01_Indoor/indoor_001.pts        version: 1 / n_points: 68 / { / x y, from 1, a line each / }
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from casfne import images, sources
from casfne.corpora.record import Photo, Points, Value, checked, five_points, read_text, unique_names
from casfne.errors import InputError

_READERS = 16  # threads: each waits for the disk or the network


def read(root: str) -> list[Photo]:
    """Every picture below ``root``, sorted by path; one without points beside it is left to a detector. Attribute:
    `indoor`, where the folder says indoor or outdoor.

    Raises InputError naming the file: no such folder, no points file at all, one that cannot be understood.
    """
    found = sources.listing(root, images.SUFFIXES | {".pts"})
    names = [name for name in found if os.path.splitext(name)[1].lower() in images.SUFFIXES]
    beside = [found.get(f"{os.path.splitext(name)[0]}.pts") for name in names]
    if names and not any(beside):
        raise InputError(f"{root}: no landmarks file (.pts) beside any of its {len(names)} images")
    with ThreadPoolExecutor(_READERS) as pool:
        points = list(pool.map(lambda path: _landmarks(path) if path else None, beside))
    ids = unique_names((name, found[name]) for name in names)
    photos = [
        Photo("300w", image_id, found[name], at, attributes=_said(name))
        for image_id, name, at in zip(ids, names, points, strict=True)
    ]
    return checked(photos, root)


def _said(name: str) -> Mapping[str, Value]:
    folder = name.rpartition("/")[0].lower()
    indoor = "indoor" in folder
    return {"indoor": indoor} if indoor != ("outdoor" in folder) else {}


def _landmarks(path: str) -> Points:
    try:
        inside = read_text(path).partition("{")[2].partition("}")[0]
        points = np.array([line.split() for line in inside.split("\n") if line.strip()], np.float64)
        return five_points(points) - 1  # the files count pixels from 1
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected 68 lines of x y in braces ({error})") from None
