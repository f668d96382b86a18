"""Files that are never half-written, and arrays read back. Imports nothing heavy."""

import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError

_LOADING = Lock()  # NumPy parses headers as Python, which CPython 3.11 gets wrong in two threads at once (gh-106905)


@contextmanager
def atomic_open(path: Path | str) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes; it appears under its name whole, or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path | str, array: NDArray) -> None:
    """Write one array as .npy, whole or not at all."""
    with atomic_open(path) as file:
        np.save(file, array, allow_pickle=False)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_open(path) as file:
        file.write(text.encode())


def read_array(path: Path | str) -> NDArray[Any]:
    """The array of a .npy file. Raises InputError naming the file: it cannot be read, or holds pickles."""
    with _loading(path):
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an .npz file, expected a single array")
        return found


def read_arrays(path: Path | str, names: Container[str]) -> dict[str, NDArray[Any]]:
    """Those of ``names`` that an .npz file holds; others stay unread. Raises InputError like `read_array`."""
    with _loading(path):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise ValueError("a single array, expected an .npz file")
        with found:
            return {name: found[name] for name in found.files if name in names}


def array_names(path: Path | str) -> list[str]:
    """What an .npz file holds, in its order. Raises InputError naming the file: it cannot be read."""
    with _loading(path), ZipFile(path) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


@contextmanager
def _loading(path: Path | str) -> Iterator[None]:
    try:
        with _LOADING:
            yield
    except Exception as error:  # a damaged file leads NumPy's readers into errors of every kind
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
