"""Archives whose members are read one by one: zip, tar, and Parquet files of pictures."""

import os
import stat
import tarfile
import threading
import zipfile
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, Protocol

from casfne.errors import InputError, one_line
from casfne.sources.names import SEPARATOR, escape, is_uri, local_path
from casfne.sources.stores import open_filesystem

_OPEN = 4  # archives that a process holds open
_ROW_GROUP = 2 * 2**30  # bytes of one row group of a Parquet file


def bounded(path: str, size: int, limit: int) -> None:
    """InputError where a file of ``size`` bytes is larger than ``limit``."""
    if size > limit:
        raise InputError(f"{path}: {size:,} bytes, more than {limit:,}")


class _Archive(Protocol):
    """One that is open. Members are read under a lock: threads may share it, processes open their own."""

    def names(self) -> list[str]:
        """Of all members that are files, as the archive has them."""

    def size(self, name: str) -> int:
        """Bytes of a member, -1 where there is none; of a table, whose rows tell none, those of the file."""

    def read(self, name: str, limit: int) -> bytes:
        """A member's content. InputError: there is none, it has more than ``limit`` bytes, or cannot be unpacked."""


_archives: "OrderedDict[tuple[Any, ...], _Archive]" = OrderedDict()
_lock = threading.RLock()


def opened(path: str) -> _Archive:
    """The archive at ``path``, of the few that this process holds open; opened again where the file has changed."""
    local = local_path(path)
    now = os.stat(local) if local is not None else None
    if now and not stat.S_ISREG(now.st_mode):
        raise InputError(f"{path}: no regular file")
    key = (os.getpid(), path, now and (now.st_mtime_ns, now.st_size, now.st_ino))
    with _lock:
        if key not in _archives:
            _archives[key] = _open_archive(path)
            while len(_archives) > _OPEN:
                _archives.popitem(last=False)
        _archives.move_to_end(key)
        return _archives[key]


def _open_archive(path: str) -> _Archive:
    kinds: dict[str, Callable[[str, Any], _Archive]] = {".zip": _Zip, ".tar": _Tar, ".parquet": _Parquet}
    suffix = os.path.splitext(path.partition("?")[0] if is_uri(path) else path)[1].lower()
    filesystem, inside = open_filesystem(path)
    file = filesystem.open_input_file(inside)
    try:
        return kinds[suffix](path, file)
    except InputError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path}: not a whole {suffix} archive ({one_line(error)})") from None


def _once(path: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        seen = set[str]()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(f"{path}: two members are called {escape(twice)!r}")


class _Zip:
    def __init__(self, path: str, file: Any) -> None:
        self.path, self.zip, self.lock = path, zipfile.ZipFile(file), threading.Lock()
        _once(path, [info.filename for info in self.zip.infolist()])

    def names(self) -> list[str]:
        return [name for name in self.zip.NameToInfo if not name.endswith("/")]

    def size(self, name: str) -> int:
        found = self.zip.NameToInfo.get(name)
        return -1 if found is None else found.file_size

    def read(self, name: str, limit: int) -> bytes:
        label = f"{self.path}{SEPARATOR}{escape(name)}"
        if (found := self.zip.NameToInfo.get(name)) is None:
            raise InputError(f"{label}: no such member")
        bounded(label, found.file_size, limit)
        try:
            with self.lock, self.zip.open(found) as member:
                return member.read(limit)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{label}: cannot be unpacked ({one_line(error)})") from None


class _Tar:
    """Only where members lie is kept; -1 for links and devices."""

    def __init__(self, path: str, file: Any) -> None:
        self.path, self.file, self.lock = path, file, threading.Lock()
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            members = [m for m in _members(tar) if not m.isdir()]
        _once(path, [m.name for m in members])
        self.at = {m.name: (m.offset_data if m.isreg() and not m.issparse() else -1, m.size) for m in members}

    def names(self) -> list[str]:
        return list(self.at)

    def size(self, name: str) -> int:
        return self.at.get(name, (0, -1))[1]

    def read(self, name: str, limit: int) -> bytes:
        label = f"{self.path}{SEPARATOR}{escape(name)}"
        if name not in self.at:
            raise InputError(f"{label}: no such member")
        start, size = self.at[name]
        if start < 0:
            raise InputError(f"{label}: a link or device, no file of its own")
        bounded(label, size, limit)
        with self.lock:
            self.file.seek(start)
            return bytes(self.file.read(size))


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after the other, kept by nobody: a TarInfo takes over a kilobyte."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        yield member


class _Parquet:
    """Members are rows, by number; the pictures of the row group that was read last are kept."""

    def __init__(self, path: str, file: Any) -> None:
        from pyarrow import parquet

        self.path, self.file, self.lock = path, parquet.ParquetFile(file), threading.Lock()
        self.bytes, self.column = file.size(), picture_column(path, self.file.schema_arrow)
        groups = (self.file.metadata.row_group(i) for i in range(self.file.num_row_groups))
        self.starts = [0, *accumulate(group.num_rows for group in groups)]
        self.kept: tuple[int, Any] = (-1, None)

    def names(self) -> list[str]:
        return [str(row) for row in range(self.starts[-1])]

    def size(self, name: str) -> int:
        return int(self.bytes)

    def read(self, name: str, limit: int) -> bytes:
        label = f"{self.path}{SEPARATOR}{escape(name)}"
        if not name.isascii() or not name.isdigit() or int(name) >= self.starts[-1]:
            raise InputError(f"{label}: no such row, expected 0 to {self.starts[-1] - 1}")
        group = bisect_right(self.starts, int(name)) - 1
        with self.lock:
            if self.kept[0] != group:
                self.kept = group, self._pictures(group)
            value = self.kept[1][int(name) - self.starts[group]]
        if value is None:
            raise InputError(f"{label}: no picture in this row")
        bounded(label, len(value), limit)
        return bytes(value)

    def _pictures(self, group: int) -> list[Any]:
        size = self.file.metadata.row_group(group).total_byte_size
        bounded(f"{self.path}: row group {group}", size, _ROW_GROUP)
        name, *leaf = self.column.split(".")
        try:
            column = self.file.read_row_group(group, [self.column])[name].combine_chunks()
        except ValueError as error:
            raise InputError(f"{self.path}: row group {group} is damaged ({one_line(error)})") from None
        return [v and v.as_buffer() for v in (column.field(leaf[0]) if leaf else column)]


def picture_column(path: str, schema: Any) -> str:
    """The column of a Parquet file that holds pictures, as `image` (bytes) or `image.bytes` (a struct of bytes and
    path): the one called image, else the only one of these types. InputError: none, or several."""
    import pyarrow as pa

    def leaf(field: Any) -> str | None:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{field.name}.bytes"
        return field.name if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None

    found = {field.name: name for field in schema if (name := leaf(field))}
    if "image" in found or len(found) == 1:
        return found.get("image") or next(iter(found.values()))
    raise InputError(f"{path}: expected a column `image` of bytes, got {', '.join(schema.names)}")
