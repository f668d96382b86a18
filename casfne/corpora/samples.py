"""Samples: what `prepare` writes and training reads. One archive a capture, one index over all.

An archive (`<subject>_<session>.npz`, nothing pickled) holds `image_0` .. `image_{L-1}` uint8 [256, 256, 3]
(sRGB, one light each), `normal` float16 [256, 256, 3] (frame opengl), `mask` bool [256, 256], `trust` uint8
[256, 256] (trust times 255) and `albedo` float16 [256, 256]. The index has a row for each image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.normals import normalise

if TYPE_CHECKING:
    import pandas as pd  # training reads archives on machines without it; whoever reads the index imports it

INDEX = "index.parquet"


@dataclass(frozen=True)
class Sample:
    """One image and its truth: image uint8 RGB, normal float32, mask bool, trust float32 0..1, all [256, 256]."""

    image: NDArray[np.uint8]
    normal: NDArray[np.float32]
    mask: NDArray[np.bool_]
    trust: NDArray[np.float32]


def write_archive(
    path: Path, images: NDArray[np.uint8], truth: dict[str, NDArray], more: dict[str, NDArray] | None = None
) -> None:
    """Write one capture: ``images`` uint8 [L, 256, 256, 3] and normal, mask, trust (0..1), albedo as float; and
    ``more`` arrays as they are."""
    arrays = {f"image_{i}": image for i, image in enumerate(images)} | (more or {})
    arrays["normal"] = truth["normal"].astype(np.float16)
    arrays["albedo"] = truth["albedo"].astype(np.float16)
    arrays["mask"] = truth["mask"].astype(bool)
    arrays["trust"] = np.rint(truth["trust"] * 255).astype(np.uint8)
    with atomic_open(path) as file:
        np.savez(file, **arrays)


def read_stored(root: Path | str, archive: str, light: int) -> dict[str, NDArray[Any]]:
    """image, normal, mask and trust of one image as the archive holds them; only those arrays are read."""
    path = Path(root) / archive
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = {"image": f"image_{light}", "normal": "normal", "mask": "mask", "trust": "trust"}
            return {name: arrays[stored] for name, stored in names.items()}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a sample archive with light {light} ({error})") from None


def read_sample(root: Path | str, archive: str, light: int) -> Sample:
    """The image under one light and the truth of its capture."""
    stored = read_stored(root, archive, light)
    trust = (stored["trust"] / 255).astype(np.float32)
    return Sample(stored["image"], normalise(stored["normal"]), stored["mask"], trust)


def write_index(root: Path | str, rows: list[dict[str, object]]) -> None:
    """Write the index of ``root``, sorted by `sample_id`."""
    import pandas as pd

    table = pd.DataFrame(rows).sort_values("sample_id", ignore_index=True)
    with atomic_open(Path(root) / INDEX) as file:
        table.to_parquet(file, index=False)


def read_index(root: Path | str) -> "pd.DataFrame":
    """The index: sample_id, archive, light, subject, session, source, ... one row for each image."""
    import pandas as pd

    path = Path(root) / INDEX
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no index of samples ({error}); `dvc repro prepare` writes it") from None
