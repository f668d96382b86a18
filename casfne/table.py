"""The table of labels, and what one calls from pandas to query it.

    frame = table.read("labels", filters=[("confidence_deg", "<", 5)])
    rows = table.read("labels", columns=["image_id", "normal", "mask"], filters=[("image_id", "==", "000001")])
    normals = table.normals(rows)                                # float32 [N, 256, 256, 3]

A folder of labels holds `corpus=<name>/part-00000.parquet` and so on: one row per face found, one row for every
image that gave none. The column `corpus` stands in the folder's name, where pandas, DuckDB and Spark read it;
`pandas.read_parquet(folder)` works as well. A folder is a local path or a URI (s3://, gs://).

Shards are small, so that one picture is found quickly; a million rows are thousands of them. `index` gathers their
numbers in one file, `_index.parquet` (a complete run ends with it), which `read` uses for as long as it is true:
metrics come from it alone, and one image's pictures from the one shard that holds it (quickest where images were
labelled in the order of their ids).
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from casfne import octahedral
from casfne.errors import InputError
from casfne.label_files import LIGHT, Labels, find, fresh_index
from casfne.label_files import index as index
from casfne.label_files import parts as parts
from casfne.normals import FRAMES, convert, decode
from casfne.schema import COLUMNS, STATUSES
from casfne.sources import open_filesystem

ATTRIBUTES = "_attributes"
SIZE = 256
Filters: TypeAlias = "Sequence[Any] | ds.Expression | None"

# metric -> whether a larger value is the worse one; of these `worst` and `best` are made
_BADNESS = {
    "last_move_deg": True,
    "roughness_deg": True,
    "facing_away": True,
    "coverage": False,
    "sharpness": False,
}


# --- reading ---


def read(
    path: Path | str,
    columns: Sequence[str] | None = None,
    filters: Filters = None,
) -> pd.DataFrame:
    """Labels as a frame: a folder of labels, the folder of one corpus, or one file; a local path or a URI.

    columns: default every one but the pictures, which weigh 100 times the rest.
    filters: as `pandas.read_parquet` takes them, [("status", "==", "ok"), ...], lists of such lists (one has to hold),
    or an expression of pyarrow, for which every shard is read; only what matches is given.
    Rows come in the order of the shards. Raises InputError: no label file, a damaged one, an unknown column, filters of
    another form.
    """
    labels, query = _asked(path, columns, filters)
    with _named(path):
        return _table(labels, query).to_pandas()


def pieces(path: Path | str, columns: Sequence[str] | None = None, filters: Filters = None) -> Iterator[pd.DataFrame]:
    """What `read` gives, a shard at a time: for pictures of whole corpora, which no memory holds."""
    labels, query = _asked(path, columns, filters)
    for shard in labels.paths:
        with _named(path):
            piece = labels.dataset([shard]).to_table(query.names, query.matching).to_pandas()
        yield piece


@dataclass(frozen=True)
class _Query:
    names: list[str]  # of the columns to give
    asked: set[str]  # those and the ones that are compared
    matching: ds.Expression | None


def _asked(path: Path | str, columns: Sequence[str] | None, filters: Filters) -> tuple[Labels, _Query]:
    names = LIGHT if columns is None else list(columns)
    compared, matching = _condition(filters)
    asked = [*names, *compared]
    if unknown := [name for name in asked if name not in COLUMNS]:
        raise InputError(f"{path}: no column {unknown[0]!r}, expected some of {', '.join(COLUMNS)}")
    labels = find(path)
    if not labels.shards:
        raise InputError(f"{path}: no label files (corpus=*/part-*.parquet)")
    return labels, _Query(names, set(asked), matching)


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """What goes wrong in reading, as InputError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _condition(filters: Filters) -> tuple[list[str], ds.Expression | None]:
    """The columns that filters compare (any, for an expression), and what they say of a row."""
    if isinstance(filters, ds.Expression):
        return list(COLUMNS), filters
    if not filters:
        return [], None
    try:
        matching = pq.filters_to_expression(filters)
    except (TypeError, ValueError) as error:
        raise InputError(f"filters {filters}: expected [(column, operator, value), ...] ({error})") from None
    alone = [[entry] if isinstance(entry[0], str) else entry for entry in filters]
    return [name for group in alone for name, _, _ in group], matching


def _table(labels: Labels, query: _Query) -> pa.Table:
    index = fresh_index(labels)
    if index is not None and query.asked <= set(LIGHT):
        return index.to_table(query.names, query.matching)
    paths = labels.paths
    if index is not None and query.matching is not None and query.asked - set(query.names) <= set(LIGHT):
        holding = index.to_table(["_part"], query.matching)["_part"].unique().to_pylist()
        paths = [posixpath.join(labels.base, part) for part in sorted(holding)]
    return labels.dataset(paths).to_table(query.names, query.matching)


# --- what the corpus says ---


def attributes(path: Path | str) -> pd.DataFrame:
    """What the corpora say of their images: corpus, image_id and a column for every attribute (null: not said).

    ``path``: the folder of labels, local or a URI. Without any, a frame of no rows.
    """
    filesystem, base = open_filesystem(str(path))
    folder = posixpath.join(base, ATTRIBUTES)
    try:
        selector = pafs.FileSelector(folder, allow_not_found=True)
        found = sorted(i.path for i in filesystem.get_file_info(selector) if i.path.endswith(".parquet"))
        frames = [_attributes_of(filesystem, file) for file in found]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: attributes cannot be read ({str(error).splitlines()[0]})") from None
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["corpus", "image_id"], dtype=str)


def _attributes_of(filesystem: pafs.FileSystem, file: str) -> pd.DataFrame:
    with filesystem.open_input_file(file) as opened:  # as a file: the name must not be taken for a partition
        frame = pq.read_table(opened).to_pandas()
    corpus = posixpath.basename(file).removeprefix("corpus=").removesuffix(".parquet")
    return frame if "corpus" in frame else frame.assign(corpus=corpus)


def joined(frame: pd.DataFrame, path: Path | str) -> pd.DataFrame:
    """``frame`` with the attributes of its images; it needs the columns corpus and image_id.

    An attribute that is called as a column of the frame gets the name with "_attribute" behind it.
    """
    if missing := {"corpus", "image_id"} - set(frame):
        raise InputError(f"a frame without {', '.join(sorted(missing))} cannot be joined: read these columns too")
    said = attributes(path)
    return frame.merge(said, "left", ["corpus", "image_id"], suffixes=("", "_attribute"), validate="many_to_one")


# --- pictures ---


def normals(rows: Any, frame: str = "opengl") -> NDArray[np.float32]:
    """Unit normals float32, zero outside the mask: [N, 256, 256, 3] of a DataFrame, [256, 256, 3] of one row.

    rows: a DataFrame or a row with `normal` or `normal_octahedral`, or one `normal`, or PNG bytes.
    frame: opengl, directx, opencv or sfs, as `casfne.normals` has them.
    Raises InputError where a row has none, and for an unknown frame.
    """
    if frame not in FRAMES:
        raise InputError(f"unknown frame {frame!r}: expected one of {', '.join(FRAMES)}")
    vectors: NDArray[np.float32] = _each(rows, _normals_of)
    return vectors if frame == "opengl" else convert(vectors, "opengl", frame)


def masks(rows: Any) -> NDArray[np.bool_]:
    """Where the normals hold, bool: [N, 256, 256] of a DataFrame, [256, 256] of one row, its `mask`, or PNG bytes."""
    return _each(rows, mask)


def mask(source: Any) -> NDArray[np.bool_]:
    """The mask bool [256, 256] from a row, its `mask`, or PNG bytes. InputError when there is none."""
    return _decode(source, "mask", cv2.IMREAD_GRAYSCALE) > 127


def _each(rows: Any, decode: Any) -> Any:
    if not isinstance(rows, pd.DataFrame):
        return decode(rows)
    if rows.empty:
        one = decode is mask
        return np.zeros((0, SIZE, SIZE), bool) if one else np.zeros((0, SIZE, SIZE, 3), np.float32)
    return np.stack([decode(row) for row in rows.to_dict("records")])


def _normals_of(source: Any) -> NDArray[np.float32]:
    packed = source.get("normal_octahedral") if isinstance(source, pd.Series | Mapping) else None
    if isinstance(packed, bytes):
        return _unpack(packed)
    picture = _decode(source, "normal", cv2.IMREAD_COLOR)[..., ::-1]
    vectors = decode(picture)
    vectors[(picture == 128).all(-1)] = 0  # the mark of "outside", which no unit vector is written as
    return vectors


def _unpack(packed: bytes) -> NDArray[np.float32]:
    try:
        return octahedral.decode(packed)
    except ValueError as error:
        raise InputError(f"the bytes of 'normal_octahedral': {error}") from None


def _bytes(source: Any, column: str) -> bytes | None:
    value = source[column] if isinstance(source, pd.Series | Mapping) and column in source else source
    data = value["bytes"] if isinstance(value, Mapping) and "bytes" in value else value
    return data if isinstance(data, bytes) else None


def _decode(source: Any, column: str, mode: int) -> NDArray[np.uint8]:
    data = _bytes(source, column)
    if data is None:
        raise InputError(f"no picture of {column!r} here: expected a row that is ok, a struct or PNG bytes")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data else None
    if image is None:
        raise InputError(f"the bytes of {column!r} are no picture")
    return np.asarray(image, np.uint8)


# --- picking rows ---


def most_uncertain(frame: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The n faces of the largest error to expect, largest first: `confidence_deg`, or `last_move_deg` where the model
    was not calibrated.
    """
    name = next((c for c in ("confidence_deg", "last_move_deg") if c in frame and frame[c].notna().any()), None)
    if name is None:
        raise InputError("no row has confidence_deg or last_move_deg: read these columns too")
    return frame.nlargest(n, name)


def worst(frame: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The n faces that are worst by all metrics together, worst first; see `badness`."""
    return frame.loc[badness(frame).nlargest(n).index]


def best(frame: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The n faces that are best by all metrics together, best first; see `badness`."""
    return frame.loc[badness(frame).nsmallest(n).index]


def badness(frame: pd.DataFrame) -> "pd.Series[float]":
    """How each face compares with the others of the frame, 0 (best) to 1: the mean of its ranks.

    Ranked are the metrics that the frame has: last_move_deg, roughness_deg and facing_away (more is worse),
    coverage and sharpness (less is worse). Rows that gave no face have none and are left out.
    """
    ranks = [frame[name].rank(pct=True, ascending=up) for name, up in _BADNESS.items() if name in frame]
    if not ranks:
        raise InputError(f"no metric to rank by: read some of {', '.join(_BADNESS)}")
    return pd.concat(ranks, axis=1).mean(axis=1).dropna()


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Per corpus: images, rows of every status (ok: faces labelled), and the median of each number in the frame.

    Needs the columns corpus, image_id and status.
    """
    groups = frame.groupby("corpus", sort=True)
    counts = {status: frame["status"].eq(status).groupby(frame["corpus"]).sum() for status in STATUSES}
    wanted = ("last_move_deg", "roughness_deg", "facing_away", "sharpness", "exposure", "confidence_deg")
    medians = {f"{name}_median": groups[name].median() for name in wanted if name in frame}
    return pd.DataFrame({"images": groups["image_id"].nunique(), **counts, **medians})
