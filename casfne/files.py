"""Files that are never half-written. Imports nothing of ours, nor anything heavy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray


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
