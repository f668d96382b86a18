"""A folder of labels as files: its shards, and the index that makes reading them quick.

Shards are small, so that one picture is found quickly; a million rows are thousands of them. `index` gathers their
numbers in one file, `_index.parquet`, which holds for as long as the shards are those that it was made of.
"""

import hashlib
import json
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from casfne import files
from casfne.errors import InputError
from casfne.schema import COLUMNS, PARTITION, PICTURES, SCHEMA
from casfne.sources import open_filesystem

INDEX = "_index.parquet"  # readers of Parquet folders skip names with an underscore
LIGHT = [name for name in COLUMNS if name not in PICTURES]  # 100 times lighter than the pictures

_PART = re.compile(r"(corpus=[^/]+/)?part-[^/]+\.parquet")
_INDEX_SHARDS = 64  # of a row group at most: few enough to find one id quickly, many enough to scan quickly
_PARTITIONS = ds.partitioning(pa.schema([SCHEMA.field(PARTITION)]), flavor="hive")


@dataclass(frozen=True)
class Labels:
    """Where labels lie: a file system, the folder or file in it, and its shards."""

    name: str  # as the user gave it
    filesystem: pafs.FileSystem
    base: str
    shards: list[pafs.FileInfo]

    @property
    def paths(self) -> list[str]:
        """Of the shards, in order, as the file system knows them."""
        return [shard.path for shard in self.shards]

    @property
    def index(self) -> str:
        """Where the index lies, or would."""
        return posixpath.join(self.base, INDEX)

    @cached_property
    def state(self) -> str:
        """Changes with every shard that is written, removed or added."""
        listed = [[_below(self.base, s.path), s.size, s.mtime_ns] for s in self.shards]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def dataset(self, paths: Iterable[str]) -> ds.FileSystemDataset:
        """Shards as one table; a column that an older one lacks is null."""
        return ds.dataset(list(paths), schema=SCHEMA, filesystem=self.filesystem, partitioning=_PARTITIONS)


def _below(base: str, path: str) -> str:
    return path[len(_prefix(base)) :]


def _prefix(base: str) -> str:
    return base.rstrip("/") + "/"


def find(path: Path | str) -> Labels:
    """The labels of a folder, of one corpus in it or of one shard, local or in a store; none is no error.

    InputError: it cannot be read, or lies in no folder corpus=<name>, which alone says of what corpus it is.
    """
    filesystem, base = open_filesystem(str(path))
    try:
        here = filesystem.get_file_info(base)
        if here.type == pafs.FileType.File:
            return _placed(Labels(str(path), filesystem, base, [here]))
        selector = pafs.FileSelector(base, allow_not_found=True, recursive=True)
        found = [i for i in filesystem.get_file_info(selector) if _PART.fullmatch(_below(base, i.path))]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return _placed(Labels(str(path), filesystem, base, sorted(found, key=lambda info: info.path)))


def _placed(labels: Labels) -> Labels:
    """``labels``, whose places name their corpora."""
    for path in labels.paths:
        if not any(part.startswith(f"{PARTITION}=") for part in path.split("/")[:-1]):
            raise InputError(f"{labels.name}: labels of what corpus? Expected them in a folder {PARTITION}=<name>")
    return labels


def parts(path: Path | str) -> list[Path]:
    """The Parquet files of a local folder of labels, of one corpus' folder, or the one file; sorted."""
    labels = find(path)
    return [Path(path) / _below(labels.base, shard) for shard in labels.paths]


def index(path: Path | str) -> None:
    """Gather the numbers of all shards in ``path``/_index.parquet, which makes `read` quick; the shards stay.

    It appears whole or not at all; one that is there and true stays. When shards change afterwards, `read` goes to
    the shards until the index is made again, as every complete run of `casfne label` does.
    Raises InputError: no label file, a damaged one.
    """
    labels = find(path)
    if not labels.shards or labels.paths == [labels.base]:
        raise InputError(f"{path}: no folder of label files (corpus=*/part-*.parquet)")
    if fresh_index(labels):
        return
    fields = [*(SCHEMA.field(name).remove_metadata() for name in LIGHT), pa.field("_part", pa.string())]
    kind = pa.schema(fields, {"shards": labels.state})
    try:
        with tempfile.TemporaryFile() as file:  # gathered here: what is cut off must not reach a bucket
            with pq.ParquetWriter(file, kind, compression="zstd") as writer:
                for piece in _pieces(labels, kind):
                    writer.write_table(piece)
            file.seek(0)
            with _target(labels) as out:
                shutil.copyfileobj(file, out)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be indexed ({str(error).splitlines()[0]})") from None


def _pieces(labels: Labels, kind: pa.Schema) -> Iterable[pa.Table]:
    """Rows of the index, some shards at a time, in the order of the shards."""
    for first in range(0, len(labels.paths), _INDEX_SHARDS):
        rows = labels.dataset(labels.paths[first : first + _INDEX_SHARDS]).to_table([*LIGHT, "__filename"])
        part = pc.utf8_slice_codeunits(rows["__filename"], start=len(_prefix(labels.base)))
        yield rows.drop_columns("__filename").append_column("_part", part).cast(kind)


def _target(labels: Labels) -> AbstractContextManager[IO[bytes]]:
    if isinstance(labels.filesystem, pafs.LocalFileSystem):
        return files.atomic_open(labels.index)
    return labels.filesystem.open_output_stream(labels.index)  # a bucket shows an object when it is complete


def fresh_index(labels: Labels) -> ds.FileSystemDataset | None:
    """The index, where there is one and it is whole and of these shards."""
    if labels.paths == [labels.base]:
        return None
    if labels.filesystem.get_file_info(labels.index).type != pafs.FileType.File:
        return None
    try:
        found = ds.dataset(labels.index, filesystem=labels.filesystem, format="parquet")
    except (OSError, pa.ArrowException):  # cut off: the shards say the same
        return None
    said = (found.schema.metadata or {}).get(b"shards", b"").decode()
    return found if said == labels.state and set(LIGHT) <= set(found.schema.names) else None
