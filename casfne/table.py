"""The table of labels, and what one calls from pandas to query it.

    frame = table.read("labels", filters=[("confidence_deg", "<", 5)])
    one = table.read("labels", columns=["image_id", "normal"], filters=[("image_id", "==", "000001")])
    normal = table.normals(one.iloc[0])                          # float32 [256, 256, 3]

A folder of labels holds `corpus=<name>/part-00000.parquet` and so on: one row per face found, one row for every
image that gave none. The column `corpus` stands in the folder's name, where pandas, DuckDB and Spark read it;
`pandas.read_parquet(folder)` works as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from casfne.schema import COLUMNS, PARTITION, PICTURES, SCHEMA, STATUSES


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
    partitions = ds.partitioning(pa.schema([SCHEMA.field(PARTITION)]), flavor="hive")
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
