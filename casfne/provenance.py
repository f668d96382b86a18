"""What made a file: hashes of files, of values, and of the code itself. Imports nothing of ours."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from casfne import __version__


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(values: Any) -> str:
    """SHA-256, hex, of anything JSON can say; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache
def code_version(*parts: str) -> str:
    """The package's version and a hash of its sources: "0.1.0+1f2e3d4c5b6a".

    ``parts`` limits the hash to files and folders of the package ("model", "normals.py"): what is made by
    them alone need not be made again when another part changes.
    """
    package = Path(__file__).parent
    roots = [package / part for part in parts] or [package]
    files = sorted(f for root in roots for f in ([root] if root.is_file() else root.rglob("*.py")))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
