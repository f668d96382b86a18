"""Normals of faces put back into the pixels of their photographs, from rows of labels alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne import images, table
from casfne.errors import InputError
from casfne.images import MAX_PIXELS, SIZE, Crop
from casfne.labelling.exports import file_name
from casfne.normals import encode, normalise

NEEDED = ("crop_to_image", "source_height", "source_width", "normal", "normal_octahedral", "mask")
_KEYS = ("corpus", "image_id")
_IMAGES = 32  # whose pictures are held at once


def paste(rows: pd.DataFrame) -> NDArray[np.float32]:
    """Unit normals float32 [H, W, 3], frame opengl, in the pixels of the upright photograph that the rows are of.

    rows: the faces of one image, with the columns ``NEEDED``; one of `normal` and `normal_octahedral` is enough. Off
    the faces' masks it is zero; where two meet, the larger face wins. Raises InputError: no rows, rows of several
    images, rows without a face, a transform that is no upright square.
    """
    height, width = _size(rows)
    photo = np.zeros((height, width, 3), np.float32)
    faces = [(crop_of(row["crop_to_image"]), row) for row in rows.to_dict("records")]
    for crop, row in sorted(faces, key=lambda face: face[0].side):
        _place(photo, crop, table.normals(row), table.mask(row))
    return photo


def crop_of(crop_to_image: Sequence[float]) -> Crop:
    """The window that a row's `crop_to_image` describes. InputError where it is no upright square of whole pixels."""
    try:
        matrix = np.asarray(crop_to_image, np.float64).reshape(2, 3)
        scale = matrix[0, 0]
        left, top = matrix[:, 2] - scale / 2 + 0.5
        crop = Crop(round(left), round(top), round(scale * SIZE))
        good = crop.side > 0 and np.allclose(crop.transform(), matrix, rtol=0, atol=1e-6)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(f"crop_to_image {crop_to_image}: expected the 2x3 transform of an upright square")
    return crop


def _size(rows: pd.DataFrame) -> tuple[int, int]:
    if missing := [name for name in NEEDED if name not in rows and not name.startswith("normal")]:
        raise InputError(f"rows without {missing[0]!r} cannot be pasted: read this column too")
    sizes = rows[["source_height", "source_width", *(name for name in _KEYS if name in rows)]].drop_duplicates()
    if len(sizes) != 1:
        raise InputError(f"rows of {len(sizes)} images, expected those of one")
    if sizes.isna().to_numpy().any():
        raise InputError("rows without the size of their image: they gave no face")
    height, width = int(sizes["source_height"].iloc[0]), int(sizes["source_width"].iloc[0])
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"a photograph of {width}x{height} pixels, expected at most {MAX_PIXELS:,}")
    return height, width


def _place(photo: NDArray[np.float32], crop: Crop, normals: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    """One face into ``photo``, in place. Normals weigh with their mask, so that its outside does not bleed in."""
    top, left = max(crop.top, 0), max(crop.left, 0)
    bottom, right = min(crop.top + crop.side, photo.shape[0]), min(crop.left + crop.side, photo.shape[1])
    if top >= bottom or left >= right:
        return
    inside = (slice(top - crop.top, bottom - crop.top), slice(left - crop.left, right - crop.left))
    weighed = np.concatenate([normals, np.ones((*mask.shape, 1), np.float32)], -1) * mask[..., None]
    window = images.resize(weighed, crop.side)[inside]
    held = window[..., 3] > 0.5
    photo[top:bottom, left:right][held] = normalise(window[..., :3][held])


def paste_all(labels: Path | str, out: Path | str, filters: Sequence[Any] = ()) -> Iterator[Path]:
    """Paste every image of a folder of labels that has a face; yields each file when it is there.

    Writes ``out``/<corpus>/<image_id>.png, 8-bit RGB (n + 1) / 2, (128, 128, 128) off the faces, each whole or not at
    all; names are escaped as `exports.file_name` does. filters: as `table.read` takes them, a list of conditions.
    Raises InputError where no face matches.
    """
    wanted = [("status", "==", "ok"), *filters]
    keys = table.read(labels, _KEYS, wanted).drop_duplicates()
    if keys.empty:
        raise InputError(f"{labels}: no labelled face matches")
    for corpus, group in keys.groupby("corpus", sort=True):
        for ids in _chunks(group["image_id"].tolist()):
            these = [("corpus", "==", corpus), ("image_id", "in", ids), *wanted]
            yield from _write(table.read(labels, [*_KEYS, *NEEDED], these), Path(out))


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[i : i + _IMAGES] for i in range(0, len(ids), _IMAGES))


def _write(rows: pd.DataFrame, out: Path) -> Iterator[Path]:
    for (corpus, image_id), faces in rows.groupby(list(_KEYS), sort=False):
        photo = paste(faces)
        path = out / f"{_name(corpus, image_id)}.png"
        images.write_image(path, encode(photo, photo.any(-1)))
        yield path


def _name(corpus: Any, image_id: Any) -> str:
    row: Mapping[str, Any] = {"corpus": corpus, "image_id": image_id}
    return file_name(row, face=False)
