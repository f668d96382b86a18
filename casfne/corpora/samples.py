"""Samples: what `prepare` writes and training reads. One archive a capture, one index over all.

An archive (`<subject>_<session>.npz`, nothing pickled) holds `image_0` .. `image_{L-1}` uint8 [256, 256, 3]
(sRGB, one light each), `normal` float16 [256, 256, 3] (frame opengl), `mask` bool [256, 256], `trust` uint8
[256, 256] (trust times 255) and `albedo` float16 [256, 256], 0 where it is not known. What `prepare` wrote also holds
`record`, JSON: how the archive was made (see `Record`). The index has a row for each image.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.files import atomic_open, read_arrays
from casfne.normals import azimuth_elevation, normalise

if TYPE_CHECKING:
    import pandas as pd  # training reads archives on machines without it; whoever reads the index imports it

INDEX = "index.parquet"

Row = dict[str, Any]
"""Of the index: plain values by column."""


@dataclass(frozen=True)
class Sample:
    """One image and its truth: image uint8 RGB, normal float32, mask bool, trust float32 0..1, all [256, 256]."""

    image: NDArray[np.uint8]
    normal: NDArray[np.float32]
    mask: NDArray[np.bool_]
    trust: NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """What an archive says of its own making: the fingerprint of all that decided its content, its rows of the index,
    and the seconds it took."""

    fingerprint: str
    rows: list[Row]
    seconds: float


def write_archive(
    path: Path,
    images: NDArray[np.uint8],
    truth: Mapping[str, NDArray],
    more: Mapping[str, NDArray] | None = None,
    record: Record | None = None,
) -> None:
    """Write one capture: ``images`` uint8 [L, 256, 256, 3] and normal, mask, trust (0..1), albedo as float; ``more``
    arrays as they are; and how it was made."""
    arrays = {f"image_{i}": image for i, image in enumerate(images)} | dict(more or {})
    if record is not None:
        arrays["record"] = np.frombuffer(json.dumps(asdict(record)).encode(), np.uint8)
    arrays["normal"] = truth["normal"].astype(np.float16)
    arrays["albedo"] = truth["albedo"].astype(np.float16)
    arrays["mask"] = truth["mask"].astype(bool)
    arrays["trust"] = np.rint(truth["trust"] * 255).astype(np.uint8)
    with atomic_open(path) as file:
        np.savez(file, **arrays)


def read_record(path: Path) -> Record | None:
    """How an archive was made; None where it is not there, is damaged, or does not say."""
    try:
        return Record(**json.loads(read_arrays(path, ("record",))["record"].tobytes()))
    except (ValueError, KeyError, TypeError):
        return None


def read_stored(root: Path | str, archive: str, light: int) -> dict[str, NDArray[Any]]:
    """image, normal, mask and trust of one image as the archive holds them; only those arrays are read."""
    path = Path(root) / archive
    names = {"image": f"image_{light}", "normal": "normal", "mask": "mask", "trust": "trust"}
    arrays = read_arrays(path, names.values())
    if missing := set(names.values()) - set(arrays):
        raise InputError(f"{path}: not a sample archive with light {light}: no {min(missing)}")
    return {name: arrays[stored] for name, stored in names.items()}


def read_sample(root: Path | str, archive: str, light: int) -> Sample:
    """The image under one light and the truth of its capture."""
    stored = read_stored(root, archive, light)
    trust = (stored["trust"] / 255).astype(np.float32)
    return Sample(stored["image"], normalise(stored["normal"]), stored["mask"], trust)


def clear(root: Path | str, rows: Sequence[Row]) -> None:
    """Remove archives in ``root`` that say how they were made and that none of ``rows`` names, and files half-written;
    other files stay."""
    wanted = {row["archive"] for row in rows}
    for path in Path(root).glob("*.npz"):
        if path.name not in wanted and read_record(path) is not None:
            path.unlink()
    for path in Path(root).glob(".*.npz.*.tmp"):
        path.unlink()


def light_columns(light: NDArray[np.float32]) -> Row:
    """What the index says of a light, a unit vector [3]."""
    azimuth, elevation = azimuth_elevation(light).tolist()
    return {"light_azimuth_deg": azimuth, "light_elevation_deg": elevation}


def mask_columns(mask: NDArray[np.bool_], trust: NDArray) -> Row:
    """What the index says of a capture's mask and of its trust, both [256, 256]."""
    return {"coverage": float(mask.mean()), "mean_trust": float(trust[mask].mean())}


def write_index(root: Path | str, rows: Sequence[Row]) -> None:
    """Write the index of ``root``, sorted by `sample_id`."""
    write_table(Path(root) / INDEX, rows, "sample_id")


def write_table(path: Path, rows: Sequence[Row], key: str) -> "pd.DataFrame":
    """Write rows as Parquet, sorted by ``key``, and give them; a column of text stays one where no row has any."""
    import pandas as pd

    table = pd.DataFrame(rows).sort_values(key, ignore_index=True)
    table = table.astype({name: "string" for name in table if table[name].dtype == object})
    with atomic_open(path) as file:
        table.to_parquet(file, index=False)
    return table


def read_index(root: Path | str) -> "pd.DataFrame":
    """The index: sample_id, archive, light, subject, session, source, ... one row for each image."""
    import pandas as pd

    path = Path(root) / INDEX
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no index of samples ({error}); `dvc repro prepare` writes it") from None
