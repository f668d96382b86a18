"""The file systems behind addresses: this machine's, and stores."""

import os
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from casfne.errors import InputError
from casfne.sources.names import local_path, split

if TYPE_CHECKING:
    import pyarrow.fs


def open_filesystem(uri: str) -> tuple["pyarrow.fs.FileSystem", str]:
    """The file system of a path or URI and the path in it. A query such as `?region=eu-west-1` or
    `?endpoint_override=localhost:9000&scheme=http` is the file system's. InputError: unknown scheme, no bucket."""
    if (local := local_path(uri)) is not None:
        return _filesystem("", "", "", os.getpid()), os.path.abspath(local)
    scheme, bucket, key, query = split(uri)
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
    local = local_path(path)
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
