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
import tarfile
import threading
import zipfile
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote, urlencode

from casfne.errors import InputError

if TYPE_CHECKING:
    import pyarrow.fs

LIMIT = 256 * 2**20  # bytes of one file or member
SEPARATOR = "::"  # between an archive and its member
ARCHIVES = (".zip", ".tar", ".parquet")

_SCHEMES = ("s3", "gs", "file")
_OPEN = 4  # archives that a process holds open
_ROW_GROUP = 2 * 2**30  # bytes of one row group of a Parquet file
# control characters, line and paragraph separators, marks that turn the direction of text, bytes that are no UTF-8
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED = re.compile("%[0-9A-Fa-f]{2}")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)/?([^?]*)(\?.*)?", re.DOTALL)


# --- names ---


def escape(name: str) -> str:
    """``name`` as printable text that UTF-8 can write: what is neither is percent-escaped, byte by byte.

    `unescape` gives the name back, so two names never become one. Nearly every name stays as it is.
    """
    if not _UNFIT.search(name) and not _ESCAPED.search(name):
        return name
    return _UNFIT.sub(lambda found: quote(found[0], safe="", errors="surrogateescape"), name.replace("%", "%25"))


def unescape(text: str) -> str:
    """The name that `escape` was given."""
    return unquote(text, errors="surrogateescape")


def climbs(name: str) -> bool:
    """Whether a name would leave the folder that it is relative to: absolute, a drive, or with `..` in it."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts


def is_uri(path: str) -> bool:
    """Whether ``path`` is an address with a scheme, such as s3://."""
    return "://" in path and _URI.match(path) is not None


def is_archive(path: str) -> bool:
    """Whether ``path`` ends as an archive does: .zip, .tar or .parquet."""
    return (path.partition("?")[0] if is_uri(path) else path).lower().endswith(ARCHIVES)


def join(folder: str, name: str) -> str:
    """The address of the file ``name`` below a folder, a URI or an archive."""
    if is_archive(folder) and not os.path.isdir(folder):
        return f"{folder}{SEPARATOR}{escape(name)}"
    if is_uri(folder):
        scheme, bucket, key, query = _split(folder)
        return f"{scheme}://{bucket}/{_quoted('/'.join(filter(None, (key.rstrip('/'), name))))}{query}"
    return address(os.path.join("" if folder == os.curdir else folder, name))


def address(path: str) -> str:
    """A local path as an address: as it is, or where it is no plain text, absolute and as file://."""
    if not _UNFIT.search(path):
        return path
    return f"file://{quote_from_bytes(os.fsencode(os.path.abspath(path)))}"


def located(path: str, folder: str) -> str:
    """``path`` where relative local ones start from ``folder``; URIs stay."""
    return path if is_uri(path) else os.path.join(folder, path)


def parent(path: str) -> str:
    """The folder that a file lies in; with the query of a URI."""
    if not is_uri(path):
        return os.path.dirname(path)
    scheme, bucket, key, query = _split(path)
    return f"{scheme}://{bucket}/{_quoted(key.rpartition('/')[0])}{query}"


def _quoted(key: str) -> str:
    return quote(key, safe="/:@!$&'()*+,;=~", errors="surrogateescape")


def _split(uri: str) -> tuple[str, str, str, str]:
    """Scheme, bucket (with `anonymous@`), key as the store knows it, query with its question mark."""
    found = _URI.fullmatch(uri)
    if not found or found[1].lower() not in _SCHEMES:
        raise InputError(f"{uri}: unknown kind of address, expected a path or one of s3://, gs://, file://")
    if ":" in found[2].rpartition("@")[0]:
        raise InputError(f"{found[1]}://...@{found[2].rpartition('@')[2]}: credentials belong into the environment")
    return found[1].lower(), found[2], unescape(found[3]), found[4] or ""


# --- file systems ---


def open_filesystem(uri: str) -> tuple["pyarrow.fs.FileSystem", str]:
    """The file system of a path or URI and the path in it. A query such as `?region=eu-west-1` or
    `?endpoint_override=localhost:9000&scheme=http` is the file system's. InputError: unknown scheme, no bucket."""
    if (local := _local(uri)) is not None:
        return _filesystem("", "", "", os.getpid()), os.path.abspath(local)
    scheme, bucket, key, query = _split(uri)
    if not bucket:
        raise InputError(f"{uri}: no bucket named")
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "") if scheme == "s3" else ""
    filesystem = _filesystem(f"{scheme}://{bucket}", query, endpoint, os.getpid())
    return filesystem, f"{bucket.rpartition('@')[2]}/{key}".rstrip("/")


@lru_cache
def _filesystem(bucket: str, query: str, endpoint: str, process: int) -> "pyarrow.fs.FileSystem":
    """One for a bucket and process: connections do not outlive a fork."""
    from pyarrow import fs

    if not bucket:
        return fs.LocalFileSystem()
    options = dict(parse_qsl(query[1:]))
    if endpoint:
        # a named region keeps Arrow from asking Amazon where the bucket is
        options.setdefault("region", os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    uri = f"{bucket}?{urlencode(options)}" if options else bucket
    try:
        return fs.FileSystem.from_uri(uri)[0]
    except ValueError as error:
        raise InputError(f"{bucket}: cannot be opened ({error})") from None


def _kind(path: str) -> str:
    """file, folder, or nothing where there is none."""
    local = _local(path)
    if local is not None:
        return "folder" if os.path.isdir(local) else "file" if os.path.lexists(local) else ""
    from pyarrow import fs

    filesystem, inside = open_filesystem(path)
    found = filesystem.get_file_info(inside).type
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(found, "")


def is_folder(path: str) -> bool:
    """Whether ``path`` is a folder, or a URI with something below it."""
    return _kind(path) == "folder"


def exists(path: str) -> bool:
    """Whether there is a file, link or folder at a path or URI."""
    return bool(_kind(path))


def _local(path: str) -> str | None:
    """The path on this machine of a path or a file:// address; None for what lies elsewhere."""
    if not is_uri(path):
        return path
    scheme, _, key, _ = _split(path)
    return f"/{key}" if scheme == "file" else None


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
        names = [name for name in _opened(folder).names() if wanted(name) and not _hidden(name)]
        return {name: join(folder, name) for name in sorted(names)}
    if _local(folder) is None:
        names = [name for name in _objects(folder) if wanted(name) and not _hidden(name)]
        return {name: join(folder, name) for name in sorted(names)}
    return dict(sorted(_walk(_local(folder) or folder, wanted)))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _objects(uri: str) -> dict[str, int]:
    """Size by name of the objects below a URI."""
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    try:
        found = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except FileNotFoundError:
        raise InputError(f"{uri}: no such folder") from None
    except OSError as error:
        raise InputError(f"{uri}: cannot be listed ({_line(error)})") from None
    return {info.path[len(base) + 1 :]: info.size for info in found if info.type == fs.FileType.File}


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
    local = _local(root)
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


def sizes(paths: Iterable[str]) -> list[int]:
    """Bytes of each file or member, -1 where it cannot be told; each folder of a bucket is listed once. For rows of
    Parquet files: of the whole file, whose rows are not counted one by one."""
    listed: dict[str, dict[str, int]] = {}
    return [_size(path, listed) for path in paths]


def _size(path: str, listed: dict[str, dict[str, int]]) -> int:
    archive, member = _member(path)
    try:
        if archive and is_archive(archive):
            return _opened(archive).size(member)
        if (local := _local(path)) is not None:
            return os.stat(local).st_size
        folder = parent(path)
        if folder not in listed:
            listed[folder] = _objects(folder)
        return listed[folder].get(_split(path)[2].rpartition("/")[2], -1)
    except (OSError, ValueError):
        return -1


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
    return _opened(archive).read(member, limit)


def _member(path: str) -> tuple[str, str]:
    """Archive or folder, and the name in it; two empty texts for what is no member."""
    if SEPARATOR not in path or (not is_uri(path) and os.path.lexists(path)):
        return "", ""
    for found in re.finditer(SEPARATOR, path):
        archive = path[: found.start()]
        if is_archive(archive) or os.path.isdir(_local(archive) or ""):
            return archive, unescape(path[found.end() :])
    return "", ""


def _read(path: str, limit: int) -> bytes:
    local = _local(path)
    if local is not None:
        return _read_local(local, path, limit)
    filesystem, inside = open_filesystem(path)
    with filesystem.open_input_file(inside) as file:
        _bounded(path, file.size(), limit)
        return bytes(file.read(file.size()))


def _read_local(local: str, path: str, limit: int) -> bytes:
    descriptor = os.open(local, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for ever
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "Is a directory", local)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: no regular file")
        _bounded(path, found.st_size, limit)
        return file.read(found.st_size)


def _read_within(folder: str, name: str, limit: int) -> bytes:
    top = os.path.realpath(_local(folder) or folder)
    target = os.path.realpath(os.path.join(top, name))
    if not _below(target, top):
        raise InputError(f"{folder}{SEPARATOR}{escape(name)}: a link that leaves {folder}")
    return _read_local(target, f"{folder}{SEPARATOR}{escape(name)}", limit)


def _bounded(path: str, size: int, limit: int) -> None:
    if size > limit:
        raise InputError(f"{path}: {size:,} bytes, more than {limit:,}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


# --- archives ---


class _Archive(Protocol):
    """One that is open. Members are read under a lock: threads may share it, processes open their own."""

    def names(self) -> list[str]: ...
    def size(self, name: str) -> int: ...
    def read(self, name: str, limit: int) -> bytes: ...


_archives: "OrderedDict[tuple[Any, ...], _Archive]" = OrderedDict()
_lock = threading.RLock()


def _opened(path: str) -> _Archive:
    """The archive at ``path``, of the few that this process holds open; opened again where the file has changed."""
    local = _local(path)
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
        raise InputError(f"{path}: not a whole {suffix} archive ({_line(error)})") from None


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
        _bounded(label, found.file_size, limit)
        try:
            with self.lock, self.zip.open(found) as member:
                return member.read(limit)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{label}: cannot be unpacked ({_line(error)})") from None


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
        _bounded(label, size, limit)
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
        _bounded(label, len(value), limit)
        return bytes(value)

    def _pictures(self, group: int) -> list[Any]:
        size = self.file.metadata.row_group(group).total_byte_size
        _bounded(f"{self.path}: row group {group}", size, _ROW_GROUP)
        name, *leaf = self.column.split(".")
        try:
            column = self.file.read_row_group(group, [self.column])[name].combine_chunks()
        except ValueError as error:
            raise InputError(f"{self.path}: row group {group} is damaged ({_line(error)})") from None
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
