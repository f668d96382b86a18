"""CelebA: the aligned pictures with their five points, and the pictures in the wild with points and boxes.

    img_align_celeba/000001.jpg               178x218; or img_align_celeba.zip; also in Img/
    img_celeba/000001.jpg                     of any size; or img_celeba.zip
    list_landmarks_align_celeba.txt           count; names of the columns; `000001.jpg  69 109 106 113 ...`
    list_landmarks_celeba.txt                 the same for the pictures in the wild
    list_bbox_celeba.txt                      count; names; `000001.jpg  95 71 226 313`: left, top, width, height
    list_eval_partition.txt                   `000001.jpg 0`: 0 train, 1 valid, 2 test
    list_attr_celeba.txt                      count; 40 names; `000001.jpg -1  1 ...`

Lists lie in the root, in Anno/ or in Eval/. The columns of points are lefteye, righteye, nose, leftmouth, rightmouth, x
and y each, from 0; "left" is the picture's left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casfne import sources
from casfne.corpora.record import Columns, Photo, by_file, checked, pictures_of, read_text, rows
from casfne.errors import InputError

_PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Table:
    """A list of CelebA: names of its columns, row by file name, and numbers [rows, columns]."""

    path: str
    columns: list[str]
    row: dict[str, int]
    values: NDArray

    def of(self, names: Sequence[str]) -> tuple[NDArray, NDArray[np.bool_]]:
        """The numbers of these files [names, columns], 0 where the list has none; and whether it has them."""
        at = np.array([self.row.get(name, -1) for name in names], np.int64)
        there = at >= 0
        found = np.zeros((len(names), self.values.shape[1]), self.values.dtype)
        found[there] = self.values[at[there]]
        return found, there


def read(root: str) -> list[Photo]:
    """The aligned pictures: every one that the list of points names or the folder holds, sorted by name. ``root``: the
    folder of all, or the archive of pictures with the lists beside it.

    A picture without points is left to a detector; one that is listed and missing stays, to be reported. Attributes:
    `partition` (train, valid, test) and the 40 of CelebA, where their lists are there.
    Raises InputError naming the file: no list of points, no pictures, a line that is no name and its numbers.
    """
    return _read(root, "celeba", "img_align_celeba", "list_landmarks_align_celeba.txt")


def read_wild(root: str) -> list[Photo]:
    """The pictures in the wild, as `read` does; with points, and with boxes where there are none."""
    return _read(root, "celeba_wild", "img_celeba", "list_landmarks_celeba.txt", "list_bbox_celeba.txt")


def _read(root: str, corpus: str, folder: str, *lists: str) -> list[Photo]:
    zipped = sources.is_archive(root)
    base = sources.parent(root) if zipped else root
    tables = [numbers(path, width) for name, width in zip(lists, (10, 4), strict=False) if (path := find(base, name))]
    if not tables:
        raise InputError(f"{sources.join(base, lists[0])}: no such landmarks file")
    place, pictures = by_file(root) if zipped else pictures_of(root, folder)
    names = sorted(pictures.keys() | {name for table in tables for name in table.row})
    wide = {table.values.shape[1]: table.of(names) for table in tables}
    points, pointed = wide.get(10, _none(len(names), 10))
    fives = points.reshape(-1, 5, 2)
    boxes, boxed = wide.get(4, _none(len(names), 4))
    said = rows(attributes(base, names, "list_attr_celeba.txt"), len(names))
    photos = [
        Photo(
            corpus,
            sources.escape(name.rpartition(".")[0] or name),
            pictures.get(name) or sources.join(place, name),
            fives[i] if pointed[i] else None,
            (*boxes[i].tolist(),) if boxed[i] else None,
            said[i],
        )
        for i, name in enumerate(names)
    ]
    return checked(photos, root)


def _none(count: int, width: int) -> tuple[NDArray, NDArray[np.bool_]]:
    return np.empty((count, width)), np.zeros(count, bool)


def attributes(root: str, names: Sequence[str], listed: str, partitioned: Sequence[str] | None = None) -> Columns:
    """The columns that the lists of a corpus give for these files: `partition`, then those of ``listed``, bool.
    partitioned: the files' names in the list of parts, where they differ."""
    columns: dict[str, Sequence[object] | NDArray] = {}
    if path := find(root, "list_eval_partition.txt"):
        parts, there = numbers(path, 1).of(partitioned or names)
        if not np.isin(parts, (0, 1, 2)).all():
            raise InputError(f"{path}: expected 0, 1 or 2 for each image")
        columns["partition"] = [
            _PARTS[int(part)] if known else None for part, known in zip(parts[:, 0], there, strict=True)
        ]
    if path := find(root, listed):
        table = numbers(path, dtype=np.int8)
        values, there = table.of(names)
        columns |= {name: _masked(values[:, i] > 0, there) for i, name in enumerate(table.columns)}
    return columns


def _masked(values: NDArray, there: NDArray[np.bool_]) -> Sequence[object] | NDArray:
    if there.all():
        return values
    return [value if known else None for value, known in zip(values.tolist(), there, strict=True)]


def find(root: str, name: str) -> str | None:
    """The list ``name`` in the root, Anno or Eval of a corpus; None where it is in none of them."""
    places = (sources.join(root, f"{folder}{name}") for folder in ("", "Anno/", "Eval/"))
    return next((path for path in places if sources.exists(path)), None)


def numbers(path: str, width: int | None = None, dtype: type[np.generic] = np.float64) -> Table:
    """A list: a count and the names of its columns, where it has such lines, then a file name and ``width`` numbers
    a line; None: as many as columns are named. InputError names file and line of what is something else."""
    lines = read_text(path).splitlines()
    header = lines[1].split() if len(lines) > 1 and len(lines[0].split()) == 1 else []
    if width is None and not header:
        raise InputError(f"{path}:2: expected the names of the columns")
    width, first = width or len(header), 2 if header else 0
    row, texts = dict[str, int](), list[str]()
    for number, line in enumerate(lines[first:], start=first + 1):
        name, _, rest = line.strip().partition(" ")
        if not name:
            continue
        if len(rest.split()) != width:
            raise InputError(f"{path}:{number}: expected a name and {width} numbers, got {line!r}")
        if "/" in name or name in row:
            raise InputError(f"{path}:{number}: {name!r} {'is there twice' if name in row else 'is no file name'}")
        row[name] = len(texts)
        texts.append(rest)
    return Table(path, header, row, _parsed(path, texts, width, dtype))


def _parsed(path: str, texts: Sequence[str], width: int, dtype: type[np.generic]) -> NDArray:
    try:
        # an eighth of the time that floats line by line would take
        return np.fromstring(" ".join(texts), dtype, sep=" ").reshape(len(texts), width)
    except ValueError as error:
        raise InputError(f"{path}: expected numbers ({error})") from None
