"""CelebA: the aligned pictures and their five points.

    img_align_celeba/000001.jpg               178x218
    list_landmarks_align_celeba.txt           count; names of the columns; `000001.jpg  69 109 106 113 ...`

The columns are lefteye, righteye, nose, leftmouth, rightmouth, x and y each, from 0; "left" is the picture's left.
"""

from pathlib import Path

import numpy as np

from casfne.corpora.record import Photo, Points, checked, pictures, require
from casfne.errors import InputError


def read(root: Path) -> list[Photo]:
    """Every picture that the list names or the folder holds, sorted by name.

    A picture without points is left to a detector; one that is listed and missing stays, to be reported.
    Raises InputError naming the file: no list, no folder, a line that is no name and ten numbers.
    """
    listed = _landmarks(require(root / "list_landmarks_align_celeba.txt", "landmarks file"))
    folder = require(root / "img_align_celeba", "folder of images")
    names = sorted(listed.keys() | {p.relative_to(folder).as_posix() for p in pictures(folder)})
    stems = [name.rpartition(".")[0] or name for name in names]
    photos = [
        Photo("celeba", stem, str(folder / name), listed.get(name)) for stem, name in zip(stems, names, strict=True)
    ]
    return checked(photos, root)


def _landmarks(path: Path) -> dict[str, Points]:
    points = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines()[2:], start=3):
        name, *values = line.split() or [""]
        if not name:
            continue
        try:
            points[name] = np.array(values, np.float64).reshape(5, 2)
        except ValueError:
            raise InputError(f"{path}:{number}: expected a name and 10 numbers, got {line!r}") from None
    return points
