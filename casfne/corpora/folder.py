"""Pictures that bring no points: folders at any depth, single files, patterns, lists, archives."""

import fnmatch
import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

from casfne import sources
from casfne.corpora import tables, tars
from casfne.corpora.record import Found, Photo, named, read_text
from casfne.errors import InputError
from casfne.images import SUFFIXES

log = logging.getLogger(__name__)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def read(root: str) -> list[Photo]:
    """Every picture below ``root``; InputError naming it when there is none."""
    return read_all([root])


def read_all(inputs: Sequence[str]) -> list[Photo]:
    """Pictures from files, folders, patterns (`*`, `?`, `**`; without `?` in a URI), lists (.txt) and archives (.zip,
    .tar, .parquet), each once, in the order given.

    In a folder or archive, what has no suffix of a picture is passed over, archives too, and a warning counts it; a
    file that is named, or matches a pattern, is always taken, so that it gets a status. A list has a path a line,
    relative to itself; it does not lead out of its folder.
    Raises InputError naming the input that is not there, matches nothing or cannot be used.
    """
    seen: dict[str, Found] = {}
    passed = Counter[str]()
    for given in inputs:
        for one in _expand(given, passed):
            seen.setdefault(one.path if sources.is_uri(one.path) else os.path.abspath(one.path), one)
    if passed:
        often = sorted(passed.items(), key=lambda kind: (-kind[1], kind[0]))
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in often)
        log.warning("passed over, as no pictures by their names: %s", kinds)
    return named(list(seen.values()), "folder", inputs[0] if inputs else "inputs")


def _expand(given: str, passed: Counter[str]) -> list[Found]:
    """The pictures of one input, named from where it starts; ``passed`` counts suffixes of what else lies there."""
    if sources.is_folder(given):
        return _below(given, passed)
    if not sources.exists(given):
        return _matches(given, passed)
    name = given.partition("?")[0] if sources.is_uri(given) else given
    if name.lower().endswith(_COMPRESSED):
        raise InputError(f"{given}: members of a compressed archive cannot be reached one by one, unpack it first")
    readers: dict[str, Callable[[str], list[Found]]] = {
        ".txt": _listed,
        ".zip": lambda path: _below(path, passed),
        ".tar": tars.find,
        ".parquet": tables.find,
    }
    if reader := readers.get(os.path.splitext(name)[1].lower()):
        return reader(given)
    return [Found(os.path.basename(name), sources.address(given) if not sources.is_uri(given) else given)]


def _below(folder: str, passed: Counter[str]) -> list[Found]:
    """The pictures of a folder or archive."""
    found = []
    for name, path in sources.listing(folder).items():
        if (suffix := _suffix(name)) in SUFFIXES:
            found.append(Found(name, path))
        else:
            passed[suffix] += 1
    return found


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


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


def _matches(pattern: str, passed: Counter[str]) -> list[Found]:
    """What a pattern matches: files as they are, folders and archives with the pictures in them."""
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
        found += [one for name in sorted(folders) for one in _expand(os.path.join(base, name), passed)]
    archives = [one for one in found if sources.is_archive(one.path)]
    found = [one for one in found if not sources.is_archive(one.path)]
    found += [inner for one in archives for inner in _expand(one.path, passed)]
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
    return _suffix(name) in SUFFIXES and any(_fits(parts[:i], pattern) for i in range(1, len(parts)))


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Whether the parts of a name match those of a pattern, of which `**` is any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
