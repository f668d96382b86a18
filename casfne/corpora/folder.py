"""Pictures that bring no points: folders at any depth, single files, patterns."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from casfne.corpora.record import Photo, checked, pictures, unique_names
from casfne.errors import InputError


def read(root: Path) -> list[Photo]:
    """Every picture below ``root``; InputError naming it when there is none."""
    return read_all([root])


def read_all(inputs: Sequence[Path | str]) -> list[Photo]:
    """Pictures from files, folders and patterns (`*`, `?`, `**`), each once, in the order given.

    In a folder, what has no suffix of a picture is passed over; a file named outright is always taken, so that
    it gets a status. Raises InputError naming the input that is not there or matches nothing.
    """
    seen: dict[str, tuple[Path, Path]] = {}
    for one in inputs:
        for path, root in _expand(Path(one)):
            seen.setdefault(os.path.abspath(path), (path, root))
    names = unique_names(seen.values())
    photos = [Photo("folder", name, str(path)) for name, (path, _) in zip(names, seen.values(), strict=True)]
    return checked(photos, Path(*inputs[:1]))


def _expand(given: Path) -> list[tuple[Path, Path]]:
    """Files with the folder that their names start from."""
    if given.is_dir():
        return [(path, given) for path in pictures(given)]
    if given.exists():
        return [(given, given.parent)]
    matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    if not matches:
        raise InputError(f"{given}: no such file or folder")
    files = [Path(m) for m in matches if Path(m).is_file()]
    folders = [pair for m in matches if Path(m).is_dir() for pair in _expand(Path(m))]
    base = Path(os.path.commonpath([p.parent for p in files])) if files else given
    return [(path, base) for path in files] + folders
