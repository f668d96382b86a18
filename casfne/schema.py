"""What a file of labels holds: its Parquet schema, in words too, and how it is written. Imports nothing of ours.

One row per face found, one row for every image that gave none. The column `corpus` stands in the folder's name,
`corpus=<name>/part-00000.parquet`, where pandas, DuckDB and Spark read it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

STATUSES = ("ok", "no_face", "unreadable", "error")
PICTURES = ("normal", "mask")
ROW_GROUP = 64  # rows: one picture is found in milliseconds, and a scan of the numbers stays quick

_PNG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

# name -> (type, meaning); the README's table of columns is this one
COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "corpus": (pa.string(), "name of the corpus, as in the folder corpus=<name>"),
    "image_id": (pa.string(), "the image's name, unique in its corpus"),
    "path": (pa.string(), "the image's file, as it was given to the run"),
    "face_index": (pa.int32(), "0 for the largest face of the image, then 1, ...; -1: the image gave no face"),
    "status": (pa.string(), f"one of {', '.join(STATUSES)}"),
    "reason": (pa.string(), "why the status is not ok; empty where it is"),
    "crop_left": (pa.int32(), "left edge of the face's square window, pixels of the image; may be negative"),
    "crop_top": (pa.int32(), "top edge of the window, pixels of the image; may be negative"),
    "crop_side": (pa.int32(), "side of the window, pixels of the image"),
    "crop_to_image": (
        pa.list_(pa.float64()),
        "2x3 matrix, row by row: pixel centres (x, y, 1) of the 256x256 crop to those of the upright image",
    ),
    "source_height": (pa.int32(), "height of the upright image, pixels"),
    "source_width": (pa.int32(), "width of the upright image, pixels"),
    "normal": (_PNG, "256x256 8-bit RGB PNG of the normals; (128, 128, 128) outside the mask"),
    "mask": (_PNG, "256x256 8-bit grey PNG, 255 where the normals hold: the face oval inside the image"),
    "last_move_deg": (pa.float32(), "mean angle between the last two stages, degrees; null without refinement"),
    "coverage": (pa.float32(), "share of the face oval inside the image, 0..1"),
    "roughness_deg": (pa.float32(), "mean angle between neighbouring normals, degrees"),
    "facing_away": (pa.float32(), "share of normals with z < 0, 0..1"),
    "sharpness": (pa.float32(), "variance of the Laplacian of the grey crop (levels 0..255)"),
    "exposure": (pa.float32(), "mean luma of the crop inside the mask, 0..1"),
    "confidence_deg": (
        pa.float32(),
        "angular error to expect, degrees, calibrated at training; null when it was not",
    ),
    "model": (pa.string(), "name of the model"),
    "weights_sha256": (pa.string(), "SHA-256 of its weights file"),
    "code_version": (pa.string(), "version of this code"),
    "refinements": (pa.int32(), "T, the refinements after the initial prediction"),
    "precision": (pa.string(), "arithmetic of the network"),
    "seconds": (pa.float32(), "time for this row, reading to normals; the one column that differs between runs"),
}
SCHEMA = pa.schema([pa.field(n, t, metadata={"description": text}) for n, (t, text) in COLUMNS.items()])
PARTITION = "corpus"
_FILE_SCHEMA = pa.schema([field for field in SCHEMA if field.name != PARTITION])

_SCALARS = [name for name, (kind, _) in COLUMNS.items() if name != PARTITION and not pa.types.is_nested(kind)]
_STRINGS = [name for name in _SCALARS if pa.types.is_string(COLUMNS[name][0])]
_LEAVES = [
    *_SCALARS,
    "crop_to_image.list.element",
    *(f"{p}.{leaf}" for p in PICTURES for leaf in ("bytes", "path")),
]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"_type": "Sequence", "feature": _feature(kind.value_type)}
    return {"_type": "Value", "dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind))}


# what every file says of itself; `huggingface` lets `datasets` and its viewers show the pictures
METADATA = {
    "frame": "opengl",
    "encoding": "8-bit RGB PNG, channel = round((n + 1) / 2 * 255)",
    "encoding_error_deg": json.dumps({"mean": 0.17, "max": 0.40}),  # a test measures them
    "huggingface": json.dumps({"info": {"features": {f.name: _feature(f.type) for f in _FILE_SCHEMA}}}),
}


def write(file: IO[bytes], rows: Iterable[Mapping[str, Any]], extra: Mapping[str, str]) -> None:
    """Rows (dicts by column; a column left out is null) as one Parquet file, with METADATA and ``extra``.

    `corpus` is not written: it is the name of the file's folder.
    """
    table = pa.Table.from_pylist(
        [{k: v for k, v in row.items() if k != PARTITION} for row in rows], _FILE_SCHEMA
    ).replace_schema_metadata({**METADATA, **extra})
    pq.write_table(
        table,
        file,
        row_group_size=ROW_GROUP,
        compression={leaf: "none" if leaf.endswith(".bytes") else "zstd" for leaf in _LEAVES},
        use_dictionary=_STRINGS,
        write_statistics=_SCALARS,
        write_page_index=True,
    )


def metadata(path: Path | str) -> dict[str, str]:
    """What a file says of itself. Raises OSError or ValueError (pyarrow's ArrowInvalid) when it is no Parquet."""
    return {k.decode(): v.decode() for k, v in (pq.read_schema(path).metadata or {}).items()}
