"""Pictures that bring no points: folders at any depth, single files, patterns, lists, archives."""

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Sequence

from casfne import sources
from casfne.corpora import tables, tars
from casfne.corpora.record import Found, Photo, named, pictures, read_text
from casfne.errors import InputError
from casfne.images import SUFFIXES

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def read(root: str) -> list[Photo]:
    """Every picture below ``root``; InputError naming it when there is none."""
    return read_all([root])


def read_all(inputs: Sequence[str]) -> list[Photo]:
    """Pictures from files, folders, patterns (`*`, `?`, `**`; without `?` in a URI), lists (.txt) and archives (.zip,
    .tar, .parquet), each once, in the order given.

    In a folder or archive, what has no suffix of a picture is passed over; a file named outright is always taken, so
    that it gets a status. A list has a path a line, relative to itself; it does not lead out of its folder.
    Raises InputError naming the input that is not there, matches nothing or cannot be used.
    """
    seen: dict[str, Found] = {}
    for given in inputs:
        for one in _expand(given):
            seen.setdefault(one.path if sources.is_uri(one.path) else os.path.abspath(one.path), one)
    return named(list(seen.values()), "folder", inputs[0] if inputs else "inputs")


def _expand(given: str) -> list[Found]:
    """The pictures of one input, named from where it starts."""
    if sources.is_folder(given):
        return [Found(name, path) for name, path in pictures(given).items()]
    if not sources.exists(given):
        return _matches(given)
    name = given.partition("?")[0] if sources.is_uri(given) else given
    if name.lower().endswith(_COMPRESSED):
        raise InputError(f"{given}: members of a compressed archive cannot be reached one by one, unpack it first")
    readers: dict[str, Callable[[str], list[Found]]] = {
        ".txt": _listed,
        ".zip": lambda path: [Found(name, address) for name, address in pictures(path).items()],
        ".tar": tars.find,
        ".parquet": tables.find,
    }
    if reader := readers.get(os.path.splitext(name)[1].lower()):
        return reader(given)
    return [Found(os.path.basename(name), sources.address(given) if not sources.is_uri(given) else given)]


def _listed(path: str) -> list[Found]:
    """The files that a list names, whether they are there or not."""
    folder, found = sources.parent(path), []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not (name := line.rstrip("\r")).strip():
            continue
        if sources.climbs(name):
            raise InputError(f"{path}:{number}: {name!r} leads out of the folder of the list")
        name = os.path.normpath(name)
        found.append(Found(name, sources.within(folder, name)))
    return found


def _matches(pattern: str) -> list[Found]:
    """What a pattern matches: files as they are, folders with the pictures below them."""
    base, rest = _fixed(pattern)
    if not rest or not sources.is_folder(base):
        raise InputError(f"{pattern}: no such file or folder")
    if sources.is_uri(pattern) or "**" in rest:
        wanted = rest.split("/")
        found = [Found(name, path) for name, path in sources.listing(base).items() if _chosen(name, wanted)]
    else:  # what lies deeper is not walked
        names = sorted(glob.glob(rest, root_dir=base))
        folders = {name for name in names if os.path.isdir(os.path.join(base, name))}
        found = [Found(name, sources.within(base, name)) for name in names if name not in folders]
        found += [one for name in sorted(folders) for one in _expand(os.path.join(base, name))]
    if not found:
        raise InputError(f"{pattern}: no such file or folder")
    return found


def _fixed(pattern: str) -> tuple[str, str]:
    """The folder before the first part with a wildcard, and the rest; nothing where there is no wildcard."""
    wild = re.search(r"[*\[]" if sources.is_uri(pattern) else r"[*?\[]", pattern)
    if not wild:
        return pattern, ""
    head, slash, _ = pattern[: wild.start()].rpartition("/")
    rest = pattern[len(head) + len(slash) :]
    if sources.is_uri(pattern):
        rest, mark, query = rest.partition("?")
        return head + mark + query, rest
    return head or (slash or os.curdir), rest


def _chosen(name: str, pattern: list[str]) -> bool:
    """Whether a file matches, or is a picture in a folder that does."""
    parts = name.split("/")
    if _fits(parts, pattern):
        return True
    return os.path.splitext(name)[1].lower() in SUFFIXES and any(
        _fits(parts[:i], pattern) for i in range(1, len(parts))
    )


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Whether the parts of a name match those of a pattern, of which `**` is any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
