"""Rendered portraits kept in files: a CPU renders a portrait no faster than it learns from it."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from casfne.config import Portraits
from casfne.errors import InputError
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.training.augment import Batch
from casfne.training.dataset import Request, Source

UNIT = 127  # of a stored normal, int8: off by 0.2 degrees on average


class Kept:
    """The images of ``source``, each rendered when it is first asked for and from then on read from ``folder``.

    A folder of each size has image.npy uint8 [N, 3, S, S], normal.npy int8 [N, 3, S, S] (127 is length 1), face.npy
    bool [N, 1, S, S] and there.npy bool [N]: which of them are written. Files are sparse until then: 7 bytes a pixel
    and portrait. ``folder`` belongs to what ``source`` renders.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.prepares_on = torch.device("cpu")
        self.opened: dict[int, dict[str, NDArray]] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        """One stored batch (see `casfne.training.dataset`); all requests are of one size."""
        maps, rows = self._open(requests[0].size), np.array([request.row for request in requests])
        if lacking := [request for request in requests if not maps["there"][request.row]]:
            self._keep(maps, lacking)
        face = torch.from_numpy(maps["face"][rows])
        return {
            "image": torch.from_numpy(maps["image"][rows]),
            "normal": torch.from_numpy(maps["normal"][rows]).half() / UNIT,
            "mask": face,
            "trust": face.to(torch.uint8) * 255,
            "seed": torch.tensor([request.seed for request in requests]),
        }

    def _keep(self, maps: dict[str, NDArray], requests: Sequence[Request]) -> None:
        made, rows = self.source.__getitems__(requests), [request.row for request in requests]
        maps["image"][rows] = made["image"].cpu().numpy()
        maps["normal"][rows] = (made["normal"].float() * UNIT).round().to(torch.int8).cpu().numpy()
        maps["face"][rows] = made["mask"].cpu().numpy()
        for name in ("image", "normal", "face"):
            maps[name].flush()  # type: ignore[attr-defined]
        maps["there"][rows] = True  # last: what a crash leaves half-written is rendered again

    def _open(self, size: int) -> dict[str, NDArray]:
        if size not in self.opened:
            count, picture = len(self), (3, size, size)
            shapes = {
                "image": (np.uint8, (count, *picture)),
                "normal": (np.int8, (count, *picture)),
                "face": (np.bool_, (count, 1, size, size)),
                "there": (np.bool_, (count,)),
            }
            self.opened[size] = {
                name: _array(self.folder / str(size) / f"{name}.npy", *s) for name, s in shapes.items()
            }
        return self.opened[size]


def _array(file: Path, kind: type, shape: tuple[int, ...]) -> NDArray:
    """The array in ``file``, for reading and writing; zeros where there was none. InputError: it is another one."""
    if not file.is_file():
        _make(file, kind, shape)
    try:
        found = np.lib.format.open_memmap(file, "r+")
    except ValueError as error:
        raise InputError(f"{file}: not kept portraits ({error})") from None
    if found.shape != shape or found.dtype != kind:
        raise InputError(f"{file}: {found.dtype} {found.shape}, expected {np.dtype(kind)} {shape}; remove its folder")
    return found


def _make(file: Path, kind: type, shape: tuple[int, ...]) -> None:
    """Zeros in ``file``, whole from the first; of several processes at it the first one's stay, which others may
    already be writing to."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        np.lib.format.open_memmap(made, "w+", kind, shape).flush()
        try:
            os.link(made, file)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links, where two may meet here
            made.replace(file)


def kept(source: Source, settings: Portraits, files: Sequence[Path]) -> Kept:
    """Those of the settings and of the head models ``files``, in a folder of their own under ``settings.keep``; other
    models, or another state of the studio's code, have another one."""
    values = {
        "heads": [file_sha256(file) for file in files],
        **{name: getattr(settings, name) for name in ("seed", "count", "supersample")},
        "code": code_version("capture", "images.py", "normals.py"),
    }
    return Kept(source, Path(str(settings.keep)) / fingerprint(values)[:12])
