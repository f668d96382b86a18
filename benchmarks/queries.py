"""Queries over a million rows of labels: numbers of all of them, and the normals of one image."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import Result
from casfne import images, schema, table
from casfne.normals import encode, sphere

ROWS, SHARD = 1_000_000, 256  # the shards of `casfne label`
PICTURED = 16  # shards with pictures of full size; those of the others are a few bytes: a million weigh 90 GB
METRICS = ["corpus", "confidence_deg", "sharpness", "roughness_deg"]
SURE = [("status", "==", "ok"), ("confidence_deg", "<", 8)]
ROUNDS = 7


def run() -> list[Result]:
    """Seconds of a filtered and grouped read, milliseconds of one map, each the median of seven, files in the page
    cache; what the index costs, and the same read without it (once).
    """
    with tempfile.TemporaryDirectory() as temporary:
        labels = Path(temporary)
        make_labels(labels, ROWS)
        setting = f"{ROWS:,} rows in {-(-ROWS // SHARD):,} shards, two corpora"
        without = seconds(lambda: group(labels), 1)
        built = seconds(lambda: table.index(labels), 1)
        grouped = seconds(lambda: group(labels), ROUNDS)
        one = seconds(lambda: fetch(labels, ROWS // 2 + SHARD), ROUNDS)
    return [
        Result("query_million_s", grouped, "s", f"four columns read, filtered, grouped, with the index; {setting}"),
        Result("query_one_map_ms", one * 1e3, "ms", f"one image's normals by id, read and decoded; {setting}"),
        Result("query_index_s", built, "s", f"making the index; {setting}"),
        Result("query_million_without_index_s", without, "s", f"the first query on the shards alone; {setting}"),
    ]


def group(labels: Path) -> None:
    """Median and count of the faces that the model is sure of, by corpus."""
    counted = table.read(labels, METRICS, SURE).groupby("corpus").agg(["median", "count"])
    if len(counted) != 2:
        raise RuntimeError(f"expected two corpora, got {len(counted)}")


def fetch(labels: Path, number: int) -> None:
    """The normals of one image."""
    rows = table.read(labels, ["normal", "mask"], [("image_id", "==", f"{number:07d}")])
    if table.normals(rows).shape != (1, 256, 256, 3):
        raise RuntimeError(f"expected one image, got {len(rows)}")


def seconds(task: Callable[[], object], rounds: int) -> float:
    """Wall time, the median of ``rounds``."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def make_labels(out: Path, count: int) -> None:
    """Shards with the schema and layout of labels: random numbers, ids in order, pictures in some shards."""
    random = np.random.default_rng(0)
    ball, inside = sphere(256)
    noisy = encode(ball + random.normal(0, 0.01, ball.shape), inside)  # PNG of a plain ball is half as large
    real = images.encode_image(noisy), images.encode_image(inside.astype(np.uint8) * 255)
    middle = count // 2 // SHARD
    for number, first in enumerate(range(0, count, SHARD)):
        pictures = real if middle <= number < middle + PICTURED else (b"none", b"none")
        rows = _shard(first, min(SHARD, count - first), random, pictures)
        corpus = "one" if number < middle else "two"
        file = out / f"corpus={corpus}" / f"part-{number:05d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_as_labels(rows, file)


def _shard(first: int, count: int, random: np.random.Generator, pictures: tuple[bytes, bytes]) -> pa.Table:
    given = {
        "image_id": [f"{i:07d}" for i in range(first, first + count)],
        "path": [f"images/{i:07d}.jpg" for i in range(first, first + count)],
        "status": np.where(random.random(count) < 0.97, "ok", "no_face"),
        "normal": [{"bytes": pictures[0], "path": None}] * count,
        "mask": [{"bytes": pictures[1], "path": None}] * count,
        "crop_to_image": [[1.5, 0.0, 10.25, 0.0, 1.5, 20.25]] * count,
    }
    fields = [field for field in schema.SCHEMA if field.name != schema.PARTITION]
    columns = [pa.array(given[f.name], f.type) if f.name in given else _column(f.type, count, random) for f in fields]
    return pa.table(columns, schema=pa.schema(fields, schema.METADATA))


def _column(kind: pa.DataType, count: int, random: np.random.Generator) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(random.gamma(4, 2, count).astype(np.float32)).cast(kind)
    if pa.types.is_integer(kind):
        return pa.array(random.integers(0, 1000, count)).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(random.random(count) < 0.1)
    return pa.array(["the same in all rows"] * count) if pa.types.is_string(kind) else pa.nulls(count, kind)


def write_as_labels(rows: pa.Table, file: Path) -> None:
    """As `schema.write` does, which takes a dict a row: a million of them would take minutes."""
    pq.write_table(
        rows,
        file,
        row_group_size=schema.ROW_GROUP,
        compression={leaf: "none" if leaf in schema._PACKED else "zstd" for leaf in schema._LEAVES},
        use_dictionary=schema._STRINGS,
        write_statistics=schema._SCALARS,
        write_page_index=True,
    )
