"""Maps of normals as files of any method: .npy, .npz, 8- and 16-bit .png, .exr."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.files import array_names, read_array, read_arrays
from casfne.images import read_pixels

SUFFIXES = (".npy", ".npz", ".png", ".exr")


def find_maps(folder: Path) -> dict[str, Path]:
    """The files of a folder that may be maps, by id: the name without its suffix, sorted.

    InputError: the folder cannot be read, or two files bear one id.
    """
    found: dict[str, Path] = {}
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for path in files:
        if (other := found.setdefault(path.stem, path)) != path:
            raise InputError(f"{folder}: {other.name} and {path.name} are both {path.stem!r}")
    return found


def read_map(path: Path) -> NDArray[np.float32]:
    """The vectors of a map, float32 [H, W, 3], as they are stored: not normalised, in the frame of their file.

    Floats are taken as they are, whole numbers of 8 and 16 bits as (n + 1) / 2 of full scale. An .npz holds one array,
    or one that is called normal or normals. Raises InputError naming the file: it cannot be read or holds no such map.
    """
    values = _READERS[path.suffix.lower()](path)
    if values.ndim != 3 or values.shape[2] != 3:
        raise InputError(f"{path}: an array of shape {values.shape}, expected [H, W, 3]")
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) * np.float32(2 / np.iinfo(values.dtype).max) - 1
    if values.dtype.kind != "f":
        raise InputError(f"{path}: values of type {values.dtype}, expected floats, or whole numbers of 8 or 16 bits")
    return values.astype(np.float32, copy=False)


def _read_npz(path: Path) -> NDArray[Any]:
    names = array_names(path)
    if len(names) > 1:
        names = [name for name in names if name in ("normal", "normals")]
    if len(names) != 1:
        raise InputError(f"{path}: holds {', '.join(array_names(path))}; which is the map? Call one 'normal'")
    return read_arrays(path, names)[names[0]]


def _read_exr(path: Path) -> NDArray[Any]:
    import OpenEXR  # OpenCV's wheels come without

    try:
        with OpenEXR.File(str(path)) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the library raises what it likes
        raise InputError(f"{path}: cannot be read ({error})") from None
    for name in ("RGB", "RGBA"):
        if name in channels:
            return np.asarray(channels[name][..., :3])
    raise InputError(f"{path}: has channels {', '.join(sorted(channels))}, expected R, G, B")


_READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": read_array,
    ".npz": _read_npz,
    ".png": read_pixels,
    ".exr": _read_exr,
}
