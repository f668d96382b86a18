"""What a file of labels holds: its Parquet schema, in words too, and how it is written. Imports nothing of ours.

One row per face found, one row for every image that gave none. The column `corpus` stands in the folder's name,
`corpus=<name>/part-00000.parquet`, where pandas, DuckDB and Spark read it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

STATUSES = ("ok", "no_face", "unreadable", "error")


@dataclass(frozen=True)
class Reason:
    """What a reason code says: the status that goes with it, and whether another try may end better."""

    status: str
    meaning: str
    can_pass: bool = False


REASONS: dict[str, Reason] = {
    "no_face": Reason("no_face", "the detector found no face"),
    "missing_file": Reason("unreadable", "there is no such file, or it is a link to nowhere"),
    "not_a_file": Reason("unreadable", "a folder, a loop of links, or a name that no file can bear"),
    "no_permission": Reason("unreadable", "the file may not be read"),
    "io_error": Reason("unreadable", "reading failed: a disk, a network or a bucket", can_pass=True),
    "source_refused": Reason("unreadable", "no regular file, too many bytes, not in its archive, or out of its folder"),
    "too_large": Reason("unreadable", "more bytes or pixels than are taken"),
    "empty_file": Reason("unreadable", "no bytes"),
    "not_an_image": Reason("unreadable", "no picture of a known format, whatever the name says"),
    "damaged_image": Reason("unreadable", "cut short or broken inside"),
    "unsupported_pixels": Reason("unreadable", "pixels of floats, of 32 bits or of colours with no way to RGB"),
    "bad_location": Reason("error", "the corpus' points or box are no face window inside the image"),
    "model_failed": Reason("error", "the model failed on this face alone, or gave what is not finite"),
    "out_of_memory": Reason("error", "memory ran out", can_pass=True),
    "worker_died": Reason("error", "the worker process died on this image", can_pass=True),
    "unexpected": Reason("error", "a defect of this code; `reason` names it"),
}
CAN_PASS = tuple(code for code, reason in REASONS.items() if reason.can_pass)
PICTURES = ("normal", "mask", "normal_octahedral", "stages", "relit")  # the columns that weigh
ROW_GROUP = 64  # rows: one picture is found in milliseconds, and a scan of the numbers stays quick

_PNG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

# name -> (type, meaning); the README's table of columns is this one
COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "corpus": (pa.string(), "name of the corpus, as in the folder corpus=<name>"),
    "image_id": (pa.string(), "the image's name, unique in its corpus"),
    "path": (pa.string(), "the image's file, as it was given to the run"),
    "face_index": (pa.int32(), "0 for the largest face of the image, then 1, ...; -1: the image gave no face"),
    "status": (pa.string(), f"one of {', '.join(STATUSES)}"),
    "reason": (pa.string(), "why the status is not ok, in words; empty where it is"),
    "crop_left": (pa.int32(), "left edge of the face's square window, pixels of the image; may be negative"),
    "crop_top": (pa.int32(), "top edge of the window, pixels of the image; may be negative"),
    "crop_side": (pa.int32(), "side of the window, pixels of the image"),
    "crop_to_image": (
        pa.list_(pa.float64()),
        "2x3 matrix, row by row: pixel centres (x, y, 1) of the 256x256 crop to those of the upright image",
    ),
    "source_height": (pa.int32(), "height of the upright image, pixels"),
    "source_width": (pa.int32(), "width of the upright image, pixels"),
    "normal": (_PNG, "256x256 8-bit RGB PNG of the normals; (128, 128, 128) outside the mask; null if octahedral"),
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
    "seconds": (pa.float32(), "of work, reading to normals; null unless asked for, since it differs between runs"),
    "reason_code": (pa.string(), f"why the status is not ok, one of {', '.join(REASONS)}; null where it is ok"),
    "normal_octahedral": (
        pa.binary(),
        "256x256 normals, octahedral, 2 x 16 bits (`casfne.octahedral.decode`); null unless asked for",
    ),
    "stages": (pa.list_(_PNG), "256x256 8-bit RGB PNG of the normals of t = 0, 1, ..., T; null unless asked for"),
    "relit": (_PNG, "128x128 8-bit grey PNG: the normals as a matte white face, lit from the upper left; or null"),
    "clipped": (pa.float32(), "share of the mask with luma from 250, of 255; 0..1"),
    "dark": (pa.float32(), "share of the mask with luma up to 16, of 255; 0..1"),
    "imbalance": (pa.float32(), "(right - left) / (right + left) of the mean luma of the mask's halves, -1..1"),
    "blockiness": (pa.float32(), "steps across JPEG's 8-pixel blocks over those within them, in the photograph"),
    "disturbed": (pa.float32(), "share of the mask where the normals are much rougher than skin; 0..1"),
    "yaw_deg": (pa.float32(), "azimuth of the mean normal, degrees, positive to the picture's right"),
    "extreme_light": (pa.bool_(), "flag: clipped, dark or imbalance is large"),
    "occluded": (pa.bool_(), "flag: something with edges before the face (disturbed), or cut by the picture's edge"),
    "low_quality": (pa.bool_(), "flag: a small window, little sharpness or strong JPEG blocks"),
    "profile": (pa.bool_(), "flag: the head is turned far, by the points' nose or by yaw_deg"),
}
SCHEMA = pa.schema([pa.field(n, t, metadata={"description": text}) for n, (t, text) in COLUMNS.items()])
PARTITION = "corpus"
_FILE_SCHEMA = pa.schema([field for field in SCHEMA if field.name != PARTITION])

_BLOBS = (pa.types.is_nested, pa.types.is_binary)
_SCALARS = [name for name, (kind, _) in COLUMNS.items() if name != PARTITION and not any(blob(kind) for blob in _BLOBS)]
_STRINGS = [name for name in _SCALARS if pa.types.is_string(COLUMNS[name][0])]


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    """The columns as Parquet stores them, below one of ours."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{name}.{field.name}", field.type)]
    return _leaves(f"{name}.list.element", kind.value_type) if pa.types.is_list(kind) else [name]


_LEAVES = [leaf for field in _FILE_SCHEMA for leaf in _leaves(field.name, field.type)]
_PACKED = {leaf for leaf in _LEAVES if leaf.endswith(".bytes")} | {"normal_octahedral"}


def type_name(kind: pa.DataType) -> str:
    """A type of numbers or text as NumPy and Hugging Face call it."""
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(kind), str(kind))


def feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type as Hugging Face's `datasets` writes it; pictures are structs."""
    if pa.types.is_struct(kind):
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"_type": "Sequence", "feature": feature(kind.value_type)}
    return {"_type": "Value", "dtype": type_name(kind)}


@dataclass(frozen=True)
class Encoding:
    """How normals are stored: the column, in words how, and the error in degrees, which a test measures."""

    column: str
    description: str
    mean_error_deg: float
    max_error_deg: float


ENCODINGS = {
    "png8": Encoding("normal", "8-bit RGB PNG, channel = round((n + 1) / 2 * 255)", 0.17, 0.40),
    "octahedral": Encoding(
        "normal_octahedral",
        "octahedral, 2 x 16 bits, value = (code - 32767) / 32767, 65535 outside the mask;"
        " differences along rows, bytes split, zstd",
        0.0013,
        0.004,
    ),
}


def file_metadata(encoding: str = "png8") -> dict[str, str]:
    """What a file says of itself; `huggingface` lets `datasets` and its viewers show the pictures.

    encoding: a key of ENCODINGS. `stages` are PNG in either; their error is that of png8.
    """
    chosen = ENCODINGS[encoding]
    return {
        "frame": "opengl",
        "axes": "x right, y up, z towards the camera; unit vectors; camera space",
        "encoding_name": encoding,
        "encoding": chosen.description,
        "encoding_column": chosen.column,
        "encoding_error_deg": json.dumps({"mean": chosen.mean_error_deg, "max": chosen.max_error_deg}),
        "huggingface": json.dumps({"info": {"features": {f.name: feature(f.type) for f in _FILE_SCHEMA}}}),
    }


METADATA = file_metadata()


def dictionary() -> list[tuple[str, str, str]]:
    """The columns in words: name, type, meaning."""
    return [(name, _spoken(kind), meaning) for name, (kind, meaning) in COLUMNS.items()]


def _spoken(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "picture"
    if pa.types.is_list(kind):
        return f"list of {_spoken(kind.value_type)}"
    return type_name(kind)


def write(file: IO[bytes], rows: Iterable[Mapping[str, Any]], extra: Mapping[str, str], encoding: str = "png8") -> None:
    """Rows (dicts by column; a column left out is null) as one Parquet file, with its metadata and ``extra``.

    encoding: of the normals in these rows, a key of ENCODINGS. `corpus` is not written: it is the name of the
    file's folder.
    """
    table = pa.Table.from_pylist(
        [{k: v for k, v in row.items() if k != PARTITION} for row in rows], _FILE_SCHEMA
    ).replace_schema_metadata({**file_metadata(encoding), **extra})
    pq.write_table(
        table,
        file,
        row_group_size=ROW_GROUP,
        compression={leaf: "none" if leaf in _PACKED else "zstd" for leaf in _LEAVES},
        use_dictionary=_STRINGS,
        write_statistics=_SCALARS,
        write_page_index=True,
    )


def metadata(path: Path | str) -> dict[str, str]:
    """What a file says of itself. Raises OSError or ValueError (pyarrow's ArrowInvalid) when it is no Parquet."""
    return {k.decode(): v.decode() for k, v in (pq.read_schema(path).metadata or {}).items()}
