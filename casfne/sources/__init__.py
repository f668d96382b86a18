"""Reading bytes wherever they lie: files, folders, `s3://` and `gs://`, members of archives. The one place that knows
addresses; imports nothing of ours but errors.

    data/a.jpg                        a local file
    s3://bucket/faces/a%20b.jpg       an object; also gs://, and file:// for local names that are no plain text
    data/images.zip::folder/a.jpg     a member of a zip or tar, or a row of a Parquet file (`x.parquet::12`)
    data/faces::link.jpg              a file of a folder that it must not leave, links followed

An address is text that UTF-8 can write, without control characters. Keys of objects and names of members are
percent-escaped where they need it. Credentials never stand in an address: they come from the environment.
"""

import heapq
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from casfne.errors import InputError, one_line
from casfne.sources.archives import bounded, opened, picture_column
from casfne.sources.names import (
    ARCHIVES,
    SEPARATOR,
    address,
    climbs,
    escape,
    is_archive,
    is_uri,
    join,
    local_path,
    located,
    parent,
    split,
    unescape,
)
from casfne.sources.stores import exists, is_folder, open_filesystem

__all__ = [
    "ARCHIVES",
    "LIMIT",
    "SEPARATOR",
    "address",
    "climbs",
    "escape",
    "exists",
    "is_archive",
    "is_folder",
    "is_uri",
    "join",
    "listing",
    "located",
    "open_filesystem",
    "parent",
    "picture_column",
    "read_bytes",
    "states",
    "unescape",
    "within",
]

LIMIT = 256 * 2**20  # bytes of one file or member


# --- what a folder or archive holds ---


def listing(folder: str, suffixes: Collection[str] = ()) -> dict[str, str]:
    """Address by name of every file below a folder, URI or archive, at any depth, sorted by name.

    suffixes: only names that end so, in lower case and with the dot; none: all. Names with a part that starts with a
    dot are left out. Nothing is opened or asked for one by one. A link that leaves the folder is listed, and reading
    it says so; folders are entered once each, so links that loop end; names of members are as the archive has them.
    InputError: no such folder, one that cannot be listed, two members of one name, a damaged archive.
    """

    def wanted(name: str) -> bool:
        return not suffixes or os.path.splitext(name)[1].lower() in suffixes

    if is_archive(folder) and not is_folder(folder):
        names = [name for name in opened(folder).names() if wanted(name) and not _hidden(name)]
        return {name: join(folder, name) for name in sorted(names)}
    if local_path(folder) is None:
        names = [name for name in _objects(folder) if wanted(name) and not _hidden(name)]
        return {name: join(folder, name) for name in sorted(names)}
    return dict(sorted(_walk(local_path(folder) or folder, wanted)))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _objects(uri: str) -> dict[str, "State"]:
    """State by name of the objects below a URI."""
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    try:
        found = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except FileNotFoundError:
        raise InputError(f"{uri}: no such folder") from None
    except OSError as error:
        raise InputError(f"{uri}: cannot be listed ({one_line(error)})") from None
    return {i.path[len(base) + 1 :]: State(i.size, i.mtime_ns or 0) for i in found if i.type == fs.FileType.File}


def _walk(root: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Names below a local folder with their addresses. Links come last, so that what they point to is known by its
    own name where it has one."""
    top, start = os.path.realpath(root), "" if root == os.curdir else os.path.join(root, "")
    todo, links, seen = [("", top)], list[str](), {top}
    while todo or links:
        if todo:
            base, real = todo.pop()
            for entry in _scan(os.path.join(root, base)):
                name = base + entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    heapq.heappush(links, name)
                elif not entry.is_dir():
                    if wanted(name):
                        yield name, address(start + name)
                elif (target := os.path.join(real, entry.name)) not in seen:
                    seen.add(target)
                    todo.append((f"{name}/", target))
            continue
        name = heapq.heappop(links)
        target = os.path.realpath(os.path.join(root, name))
        folder = os.path.isdir(target)
        if folder and _below(target, top):
            if target not in seen:
                seen.add(target)
                todo.append((f"{name}/", target))
        elif folder or wanted(name):
            yield name, within(root, name)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        raise InputError(f"{address(folder)}: no such folder") from None
    except OSError as error:
        raise InputError(f"{address(folder)}: cannot be listed ({error.strerror})") from None


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)


def within(root: str, name: str) -> str:
    """The address of ``name`` below a folder or URI; of a link that leaves a local folder, one that cannot be read."""
    local = local_path(root)
    if local is None:
        return join(root, name)
    path = os.path.join(local, name)
    linked = _real(os.path.dirname(path)) != os.path.join(_real(local), os.path.dirname(name)).rstrip(os.sep)
    if (linked or os.path.islink(path)) and not _below(os.path.realpath(path), _real(local)):
        return f"{address(local or os.curdir)}{SEPARATOR}{escape(name)}"
    return join(root, name)


@lru_cache(maxsize=1024)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


class State(NamedTuple):
    """What tells a file from a later one of its name: its bytes, -1 where that cannot be told; and when it was last
    written, in nanoseconds since 1970, 0 where that cannot be told."""

    size: int
    written_ns: int


_UNKNOWN = State(-1, 0)


def states(paths: Iterable[str]) -> list[State]:
    """The state of each file; each folder of a bucket is listed once. Of a member of an archive: its own size (of rows
    of Parquet files: the whole file's), and when the archive was written, which is asked once."""
    listed: dict[str, dict[str, State]] = {}
    written = lru_cache(maxsize=None)(_written_ns)
    return [_state(path, listed, written) for path in paths]


def _written_ns(archive: str) -> int:
    filesystem, inside = open_filesystem(archive)
    return filesystem.get_file_info(inside).mtime_ns or 0


def _state(path: str, listed: dict[str, dict[str, State]], written: Callable[[str], int]) -> State:
    archive, member = _member(path)
    try:
        if archive and is_archive(archive):
            return State(opened(archive).size(member), written(archive))
        if (local := local_path(path)) is not None:
            found = os.stat(local)
            return State(found.st_size, found.st_mtime_ns)
        folder = parent(path)
        if folder not in listed:
            listed[folder] = {}  # a store that refuses to list is asked once
            listed[folder] = _objects(folder)
        return listed[folder].get(split(path)[2].rpartition("/")[2], _UNKNOWN)
    except (OSError, ValueError):
        return _UNKNOWN


# --- reading ---


def read_bytes(path: str, limit: int = LIMIT) -> bytes:
    """The bytes of a file, an object or a member of an archive.

    OSError: it is not there or cannot be read, which may pass. InputError naming ``path``: it has more than ``limit``
    bytes, is no regular file, leaves its folder or archive, or the archive is damaged or does not hold it.
    """
    archive, member = _member(path)
    if not archive:
        return _read(path, limit)
    if climbs(member):
        raise InputError(f"{path}: the name leads out of {archive}")
    if not is_archive(archive) or is_folder(archive):
        return _read_within(archive, member, limit)
    return opened(archive).read(member, limit)


def _member(path: str) -> tuple[str, str]:
    """Archive or folder, and the name in it; two empty texts for what is no member."""
    if SEPARATOR not in path or (not is_uri(path) and os.path.lexists(path)):
        return "", ""
    for found in re.finditer(SEPARATOR, path):
        archive = path[: found.start()]
        if is_archive(archive) or os.path.isdir(local_path(archive) or ""):
            return archive, unescape(path[found.end() :])
    return "", ""


def _read(path: str, limit: int) -> bytes:
    local = local_path(path)
    if local is not None:
        return _read_local(local, path, limit)
    filesystem, inside = open_filesystem(path)
    with filesystem.open_input_file(inside) as file:
        bounded(path, file.size(), limit)
        return bytes(file.read(file.size()))


def _read_local(local: str, path: str, limit: int) -> bytes:
    descriptor = os.open(local, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for ever
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "Is a directory", local)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: no regular file")
        bounded(path, found.st_size, limit)
        return file.read(found.st_size)


def _read_within(folder: str, name: str, limit: int) -> bytes:
    top = os.path.realpath(local_path(folder) or folder)
    target = os.path.realpath(os.path.join(top, name))
    if not _below(target, top):
        raise InputError(f"{folder}{SEPARATOR}{escape(name)}: a link that leaves {folder}")
    return _read_local(target, f"{folder}{SEPARATOR}{escape(name)}", limit)
