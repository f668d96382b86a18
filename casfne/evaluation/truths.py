"""What predictions are held against: a sample index with its archives, or a folder of normals and masks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import INDEX, Sample, read_index, read_sample
from casfne.corpora.split import rows_of
from casfne.errors import InputError
from casfne.evaluation.bins import bins_of
from casfne.evaluation.maps import find_maps, read_map
from casfne.evaluation.metrics import unit_vectors
from casfne.evaluation.regions import region_map
from casfne.files import read_arrays
from casfne.images import read_grey

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Truth:
    """One image's truth: the mask bool [H, W], and of its P > 0 pixels the unit normals float32 [P, 3] (frame opengl)
    and the regions uint8 [P] (see `region_map`); and the kinds that the image is of."""

    sample_id: str
    subject: str
    mask: NDArray[np.bool_]
    normals: NDArray[np.float32]
    regions: NDArray[np.uint8]
    kinds: Mapping[str, str]


@dataclass(frozen=True)
class Truths:
    """The truth of many images, by id; ``read`` gives one of them."""

    name: str
    ids: tuple[str, ...]
    read: Callable[[str], Truth]


def open_truths(path: Path | str, split: Path | str | None = None) -> Truths:
    """The truth at ``path``: an `index.parquet` or its folder, or a folder with normals/<id>.npy or .png and
    masks/<id>.png, whose images count as a person each.

    split: a file that `dvc repro split` wrote; then only its test people's images are in, which an index alone can
    tell. Raises InputError: nothing of the kind, a mask is missing, an id is there twice, index and split disagree.
    """
    path = Path(path)
    if path.name == INDEX or (path / INDEX).is_file():
        return _of_index(path.parent if path.name == INDEX else path, split)
    if split is not None:
        raise InputError(f"{path}: no {INDEX}, which names the people; a split says nothing without")
    return _of_folder(path)


def truth_of(row: Mapping[str, Any], sample: Sample, points: NDArray | None = None) -> Truth:
    """A sample's truth, with regions and kinds. points: of the face in the crop, [5, 2] or [68, 2]; see `region_map`.

    Raises InputError naming the sample: its mask is empty, or its normals are none.
    """
    name = str(row["sample_id"])
    inside = _inside(name, sample.normal, sample.mask, points)
    return Truth(name, str(row["subject"]), sample.mask, *inside, bins_of(row, sample.image, sample.mask))


def read_points(root: Path | str, archive: str) -> NDArray[np.float32] | None:
    """The landmarks [68, 2] of a capture's crop, where its archive holds any."""
    return read_arrays(Path(root) / archive, ("landmarks",)).get("landmarks")


def _of_index(root: Path, split: Path | str | None) -> Truths:
    index = read_index(root)
    if lacking := {"sample_id", "archive", "light", "subject"} - set(index):
        raise InputError(f"{root / INDEX}: no column {min(lacking)}")
    if (twice := index["sample_id"].duplicated()).any():
        raise InputError(f"{root / INDEX}: {index['sample_id'][twice].iloc[0]} is there twice")
    if split is not None:
        index = _tested(root, index, read_split(Path(split)))
    if index.empty:
        raise InputError(f"{root / INDEX}: no samples to evaluate")
    rows: dict[str, dict[Any, Any]] = {str(row["sample_id"]): row for row in index.to_dict("records")}

    def read(sample_id: str) -> Truth:
        row = rows[sample_id]
        return truth_of(row, read_sample(root, row["archive"], row["light"]), read_points(root, row["archive"]))

    return Truths(str(root), tuple(rows), read)


def _tested(root: Path, index: "pd.DataFrame", split: dict[str, list[str]]) -> "pd.DataFrame":
    """The test people's rows. InputError: there are no others, as where the truth was made with that split."""
    if not index.empty and set(index["subject"]) <= set(split["test"]) - set(split["train"]):
        raise InputError(f"{root}: this truth holds the split's test people alone; leave --split out")
    return rows_of(index, split, "test")


def read_split(path: Path) -> dict[str, list[str]]:
    """The people of ``train`` and ``test``, as the stage split wrote them. InputError naming the file."""
    try:
        split = json.loads(path.read_text())
        return {part: list(split[part]) for part in ("train", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no split of people into train and test ({error})") from None


def _of_folder(path: Path) -> Truths:
    normals, masks = (find_maps(path / part) for part in ("normals", "masks"))
    if not normals:
        raise InputError(f"{path}: no truth: expected {INDEX}, or normals/<id>.npy or .png and masks/<id>.png")
    if lacking := sorted(set(normals) - set(masks)):
        raise InputError(f"{path / 'masks'}: no {lacking[0]}.png ({len(lacking)} of {len(normals)} masks are missing)")

    def read(sample_id: str) -> Truth:
        mask = read_grey(masks[sample_id]) > 0.5
        file = normals[sample_id]
        return Truth(sample_id, sample_id, mask, *_inside(str(file), read_map(file), mask), {})

    return Truths(str(path), tuple(sorted(normals)), read)


def _inside(
    name: str, normal: NDArray[np.float32], mask: NDArray[np.bool_], points: NDArray | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Unit normals [P, 3] and regions [P] of the mask's pixels; InputError naming them where they can be no truth."""
    if normal.shape != (*mask.shape, 3):
        raise InputError(f"{name}: normals of shape {normal.shape}, and a mask of {mask.shape}")
    if not mask.any():
        raise InputError(f"{name}: the mask is empty")
    vectors, there = unit_vectors(normal[mask])
    if not there.all():
        raise InputError(f"{name}: {int((~there).sum())} of {there.size} pixels of the mask hold no unit normal")
    return vectors, region_map(mask, points)[mask]
