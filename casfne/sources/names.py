"""Addresses of files, wherever they lie: made, taken apart, escaped. Nothing is opened."""

import os
import re
from urllib.parse import quote, quote_from_bytes, unquote

from casfne.errors import InputError

SEPARATOR = "::"  # between an archive and its member
ARCHIVES = (".zip", ".tar", ".parquet")

_SCHEMES = ("s3", "gs", "file")
# control characters, line and paragraph separators, marks that turn the direction of text, bytes that are no UTF-8
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED = re.compile("%[0-9A-Fa-f]{2}")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)/?([^?]*)(\?.*)?", re.DOTALL)


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
        scheme, bucket, key, query = split(folder)
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
    scheme, bucket, key, query = split(path)
    return f"{scheme}://{bucket}/{_quoted(key.rpartition('/')[0])}{query}"


def _quoted(key: str) -> str:
    return quote(key, safe="/:@!$&'()*+,;=~", errors="surrogateescape")


def split(uri: str) -> tuple[str, str, str, str]:
    """Scheme, bucket (with `anonymous@`), key as the store knows it, query with its question mark."""
    found = _URI.fullmatch(uri)
    if not found or found[1].lower() not in _SCHEMES:
        raise InputError(f"{uri}: unknown kind of address, expected a path or one of s3://, gs://, file://")
    if ":" in found[2].rpartition("@")[0]:
        raise InputError(f"{found[1]}://...@{found[2].rpartition('@')[2]}: credentials belong into the environment")
    return found[1].lower(), found[2], unescape(found[3]), found[4] or ""


def local_path(path: str) -> str | None:
    """The path on this machine of a path or a file:// address; None for what lies elsewhere."""
    if not is_uri(path):
        return path
    scheme, _, key, _ = split(path)
    return f"/{key}" if scheme == "file" else None
