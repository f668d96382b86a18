"""The one record that every corpus gives, and what its readers share."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from casfne import images, sources
from casfne.errors import InputError, one_line

Points = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels
Value = str | int | float | bool
Columns = Mapping[str, Sequence[Any] | NDArray]  # of equal length; None: not known of this image

_NOTHING: Mapping[str, Value] = {}


class Attributes(Mapping[str, Value]):
    """What is said of one image: a row of columns that all images of the corpus share. Pickled, it is a plain dict."""

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: Mapping[str, Sequence[Any]], row: int) -> None:
        self._columns, self._row = columns, row

    def __getitem__(self, name: str) -> Value:
        value: Value | None = self._columns[name][self._row]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        row = self._row
        return iter([name for name, column in self._columns.items() if column[row] is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """One picture of a corpus, light enough to hold by the million: nothing of it has been read.

    path: what `casfne.sources.read_bytes` takes, as the corpus was named: relative to the working directory where that
    was. Like image_id it is text that UTF-8 can write, without control characters, whatever the file is called.
    points: float64 [5, 2], x and y in pixels counted from 0 at the centre of the first pixel: left eye, right
    eye (as seen in the picture), nose tip, left and right mouth corner.
    box: of the face, where there are no points. Without both the face is left to a detector.
    """

    corpus: str
    image_id: str  # unique in its corpus
    path: str
    points: Points | None = None
    box: Box | None = None
    attributes: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)


class Found(NamedTuple):
    """A picture that has no id yet: its name below its root, its address, what is said of it."""

    name: str
    path: str
    attributes: Mapping[str, Value] = _NOTHING


def rows(columns: Columns, count: int) -> list[Mapping[str, Value]]:
    """The attributes of ``count`` images; without columns, none."""
    cells = {name: _cells(column) for name, column in columns.items()}
    return [Attributes(cells, i) for i in range(count)] if cells else [_NOTHING] * count


def _cells(column: Sequence[Any] | NDArray) -> Sequence[Any]:
    """A column that gives Python's own values, at no more than its size as an array."""
    if not isinstance(column, np.ndarray):
        return column
    if column.dtype.kind not in "bif":
        return list(column.tolist())
    return memoryview(np.ascontiguousarray(column))  # type: ignore[arg-type]


def columns(said: Sequence[Mapping[str, Value]]) -> Columns:
    """What is said of each image as columns, each of one type: whole numbers beside others become float, anything
    else that differs becomes text."""
    names = sorted({name for one in said for name in one})
    return {name: _one_type([one.get(name) for one in said]) for name in names}


def _one_type(values: list[Value | None]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    kind = float if kinds == {int, float} else str
    return values if len(kinds) < 2 else [None if value is None else kind(value) for value in values]


def five_points(points: ArrayLike) -> Points:
    """Five points of a face, float64 [5, 2], from the 68 of the iBUG scheme [68, 2]; ValueError otherwise.

    Each eye is the mean of its six points; 36 to 41 is the eye on the picture's left.
    """
    p = np.asarray(points, np.float64)
    if p.shape != (68, 2):
        raise ValueError(f"expected 68 points [68, 2], got shape {p.shape}")
    return np.stack([p[36:42].mean(0), p[42:48].mean(0), p[30], p[48], p[54]])


def pictures(folder: str) -> dict[str, str]:
    """Address by name of every file below a folder, URI or archive with the suffix of a picture; see
    `casfne.sources.listing`."""
    return sources.listing(folder, images.SUFFIXES)


def pictures_of(root: str, name: str) -> tuple[str, dict[str, str]]:
    """The folder ``name`` of a corpus, or its archive, ``name``.zip or .tar, in the root or in its folder Img; and
    address by file name, without folders, of its pictures. InputError: neither is there, or two bear one name."""
    places = (f"{folder}{name}{suffix}" for suffix in ("", ".zip", ".tar") for folder in ("", "Img/"))
    folder = next((path for place in places if sources.exists(path := sources.join(root, place))), None)
    return by_file(folder or require(sources.join(root, name), "folder of images"))


def by_file(folder: str) -> tuple[str, dict[str, str]]:
    """The folder or archive, and address by file name, without folders, of its pictures. InputError: two of one
    name."""
    found: dict[str, str] = {}
    for name, path in pictures(folder).items():
        if (other := found.setdefault(name.rpartition("/")[2], path)) != path:
            raise InputError(f"{folder}: {other} and {path} bear one name")
    return folder, found


def unique_names(names: Iterable[tuple[str, str]]) -> list[str]:
    """An id for each (name below its root, address): the name without suffix, as long as no other has that.

    Those that share one get their suffix, and if they still share it, their whole address.
    """
    choices = [(sources.escape(os.path.splitext(name)[0]), sources.escape(name), path) for name, path in names]
    level = [0] * len(choices)
    while True:
        chosen = [choice[i] for choice, i in zip(choices, level, strict=True)]
        count = Counter(chosen)
        shared = [k for k, name in enumerate(chosen) if count[name] > 1 and level[k] < 2]
        if not shared:
            return chosen
        for k in shared:
            level[k] += 1


def named(found: Sequence[Found], corpus: str, root: str) -> list[Photo]:
    """Photos of what was found, each with an id of its own. InputError: nothing was found."""
    ids = unique_names((one.name, one.path) for one in found)
    photos = [Photo(corpus, i, one.path, attributes=one.attributes) for i, one in zip(ids, found, strict=True)]
    return checked(photos, root)


def require(path: str, what: str) -> str:
    """``path`` if it is there; InputError naming it and saying what was expected otherwise."""
    if not sources.exists(path):
        raise InputError(f"{path}: no such {what}")
    return path


def photo_bytes(path: str) -> bytes:
    """The file of a photograph, wherever it lies. Raises PictureError naming ``path``: it cannot be read."""
    try:
        return sources.read_bytes(path)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise images.PictureError(f"{path}: cannot be read ({reason})", images.os_reason(error)) from None
    except InputError as error:
        raise images.PictureError(str(error), "source_refused") from None
    except ValueError as error:  # a name with a zero in it
        raise images.PictureError(f"{path}: cannot be read ({error})", "not_a_file") from None


def read_text(path: str, limit: int = sources.LIMIT) -> str:
    """The text of a file of a corpus; bytes that are no UTF-8 are kept as surrogates. InputError: it cannot be read."""
    try:
        return sources.read_bytes(path, limit).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def checked(photos: list[Photo], root: str) -> list[Photo]:
    """The photos of a corpus; InputError naming its root when there are none or two bear one id."""
    if not photos:
        raise InputError(f"{root}: no images found")
    by_id: dict[str, str] = {}
    for photo in photos:
        if (other := by_id.setdefault(photo.image_id, photo.path)) != photo.path:
            raise InputError(f"{root}: {other} and {photo.path} are both image {photo.image_id!r}")
    return photos
