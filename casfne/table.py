"""The table of labels: its Parquet schema, and what one calls from pandas to query it. Imports nothing of ours.

    frame = table.read("labels", filters=[("confidence_deg", "<", 5)])
    one = table.read("labels", columns=["image_id", "normal"], filters=[("image_id", "==", "000001")])
    normal = table.normals(one.iloc[0])                          # float32 [256, 256, 3]

A folder of labels holds `corpus=<name>/part-00000.parquet` and so on: one row per face found, one row for every
image that gave none. The column `corpus` stands in the folder's name, where pandas, DuckDB and Spark read it;
`pandas.read_parquet(folder)` works as well.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
_PARTITION = "corpus"
_FILE_SCHEMA = pa.schema([field for field in SCHEMA if field.name != _PARTITION])

_SCALARS = [name for name, (kind, _) in COLUMNS.items() if name != _PARTITION and not pa.types.is_nested(kind)]
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
        [{k: v for k, v in row.items() if k != _PARTITION} for row in rows], _FILE_SCHEMA
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


def parts(path: Path | str) -> list[Path]:
    """The Parquet files of a folder of labels, of one corpus' folder, or the one file; sorted."""
    path = Path(path)
    if path.is_file():
        return [path]
    return sorted([*path.glob("corpus=*/part-*.parquet"), *path.glob("part-*.parquet")])


def read(
    path: Path | str,
    columns: Sequence[str] | None = None,
    filters: Sequence[Any] | None = None,
) -> pd.DataFrame:
    """Labels as a frame: a folder of labels, the folder of one corpus, or one file.

    columns: default every one but the pictures, which weigh 100 times the rest.
    filters: as `pandas.read_parquet` takes them, [("status", "==", "ok"), ...]; only what matches is read.
    Raises FileNotFoundError when there is no label file, ValueError naming an unknown column.
    """
    files = parts(path)
    if not files:
        raise FileNotFoundError(f"{path}: no label files (corpus=*/part-*.parquet)")
    names = list(columns) if columns is not None else [name for name in COLUMNS if name not in PICTURES]
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValueError(f"no column {unknown[0]!r}: expected some of {', '.join(COLUMNS)}")
    expression = pq.filters_to_expression(filters) if filters else None
    partitions = ds.partitioning(pa.schema([SCHEMA.field(_PARTITION)]), flavor="hive")
    return (
        ds.dataset(files, schema=SCHEMA, partitioning=partitions).to_table(columns=names, filter=expression).to_pandas()
    )


def normals(source: Any) -> NDArray[np.float32]:
    """Normals float32 [256, 256, 3], frame opengl, zero outside the mask, from a row, its `normal`, or PNG bytes.

    ValueError when there is none.
    """
    picture = _decode(source, "normal", cv2.IMREAD_COLOR)[..., ::-1]
    vectors = picture.astype(np.float32) / 127.5 - 1
    vectors[(picture == 128).all(-1)] = 0  # the mark of "outside", which no unit vector is written as
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def mask(source: Any) -> NDArray[np.bool_]:
    """The mask bool [256, 256] from a row, its `mask`, or PNG bytes. ValueError when there is none."""
    return _decode(source, "mask", cv2.IMREAD_GRAYSCALE) > 127


def _decode(source: Any, column: str, mode: int) -> NDArray[np.uint8]:
    value = source[column] if isinstance(source, pd.Series | Mapping) and column in source else source
    data = value["bytes"] if isinstance(value, Mapping) else value
    if not isinstance(data, bytes):
        raise ValueError(f"no picture of {column!r} here: expected a row that is ok, a struct or PNG bytes")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if image is None:
        raise ValueError(f"the bytes of {column!r} are no picture")
    return np.asarray(image, np.uint8)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Per corpus: images, rows of every status (ok: faces labelled), and the median of each number in the frame.

    Needs the columns corpus, image_id and status.
    """
    groups = frame.groupby("corpus", sort=True)
    counts = {status: frame["status"].eq(status).groupby(frame["corpus"]).sum() for status in STATUSES}
    wanted = ("last_move_deg", "roughness_deg", "facing_away", "sharpness", "exposure", "confidence_deg")
    medians = {f"{name}_median": groups[name].median() for name in wanted if name in frame}
    return pd.DataFrame({"images": groups["image_id"].nunique(), **counts, **medians})
