"""What corpora say of their images (a partition, a smile, indoors), carried beside the labels.

`_attributes/corpus=<name>.parquet`: image_id and a column for each attribute; null where an image has none.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from casfne.corpora import record
from casfne.corpora.record import Photo
from casfne.provenance import fingerprint

FOLDER = "_attributes"


@dataclass(frozen=True)
class Table:
    """The attributes of one corpus: its file, the photos, the columns (none: there is nothing to write)."""

    part: str
    photos: Sequence[Photo]
    columns: tuple[str, ...]
    fingerprint: str

    def write(self, file: IO[bytes]) -> None:
        """The Parquet file."""
        said = record.columns([photo.attributes for photo in self.photos])
        values = {"image_id": [photo.image_id for photo in self.photos]} | {name: said[name] for name in self.columns}
        table = pa.table(values).replace_schema_metadata({"fingerprint": self.fingerprint})
        pq.write_table(table, file, compression="zstd")


def of(corpus: str, photos: Sequence[Photo]) -> Table:
    """The table of one corpus' photos; its columns sorted."""
    names: set[str] = set()
    digest = hashlib.sha256()  # one photo after the other: 40 attributes of a million images are much text
    for photo in photos:
        names |= photo.attributes.keys()
        digest.update(fingerprint([photo.image_id, dict(photo.attributes)]).encode())
    columns = tuple(sorted(names - {"image_id"}))
    return Table(f"{FOLDER}/corpus={corpus}.parquet", photos, columns, digest.hexdigest())
