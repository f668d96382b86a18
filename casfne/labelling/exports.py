"""Normals of chosen rows as files of other kinds: pictures, arrays, or a data set for Hugging Face."""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from casfne import files, images, schema, table
from casfne.errors import InputError
from casfne.normals import encode

_LONGEST = 180  # bytes of a file's name without its ending: file systems take 255
_DATASET_ROWS = 2048  # of one file of a data set: some 200 MB
_GROUP_ROWS = 64


def export(
    rows: pd.DataFrame | Iterable[pd.DataFrame], out: Path | str, kind: str = "png", frame: str = "opengl"
) -> list[Path]:
    """Write the normals of each row below the folder ``out``; the files written, in the order of the rows.

    rows: with `corpus`, `image_id`, `face_index` and `normal` or `normal_octahedral`; or such frames one after the
    other, as `table.pieces` gives them, so that memory does not grow with their number.
    kind: png (8 bits a channel, (n + 1) / 2), png16 (16 bits), exr, npy (both float32, zero outside the mask), all as
    <corpus>/<image_id>_<face_index> with what file systems do not take percent-escaped; or hf, a folder for
    `datasets.load_dataset(out)`: all the columns of ``rows``, normals as 8-bit pictures.
    frame: of the normals written. Outside the mask, pictures hold the middle grey.
    Raises InputError: no rows, a row without normals, unknown kind or frame, ``out`` in the way.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")
    if Path(out).is_file():
        raise InputError(f"{out}: is a file, expected a folder to write into")
    pieces = (_checked(piece) for piece in ([rows] if isinstance(rows, pd.DataFrame) else rows) if len(piece))
    written = _write_dataset(pieces, Path(out), frame) if kind == "hf" else _write_each(pieces, Path(out), kind, frame)
    if not written:
        raise InputError("no rows to export")
    return written


def file_name(row: "Mapping[str, Any] | pd.Series[Any]", face: bool = True) -> str:
    """corpus/image_id_face of a row, safe for any file system: what is not a letter of ASCII, digit, `-`, `_` or `.`
    is percent-escaped; a name too long ends with its hash. Two rows never get one name.
    """
    name = _safe(str(row["image_id"]), f"_{int(row['face_index'])}" if face else "")
    return f"{_safe(str(row['corpus']))}/{name}"


def _safe(text: str, ending: str = "") -> str:
    escaped = quote(text, safe="").replace("~", "%7E")
    escaped = re.sub(r"^\.", "%2E", escaped) or "%"  # hidden files, `..` and the empty name
    if len(escaped) + len(ending) > _LONGEST:
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        escaped = f"{escaped[: _LONGEST - len(ending) - 26]}%-{digest}"  # no escape reads so: no other name is this one
    return escaped + ending


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    if missing := [name for name in ("corpus", "image_id", "face_index") if name not in rows]:
        raise InputError(f"rows without {missing[0]!r} have no name: read this column too")
    has = pd.Series(False, rows.index)
    for column in ("normal", "normal_octahedral"):
        if column in rows:
            has |= rows[column].notna()
    if not has.all():
        first = rows[~has].iloc[0]
        raise InputError(f"{first['corpus']}/{first['image_id']}: has no normals ({(~has).sum()} such rows)")
    return rows


# --- one file a row ---


def _write_each(pieces: Iterable[pd.DataFrame], out: Path, kind: str, frame: str) -> list[Path]:
    suffix, encoder = _WRITERS[kind]
    written = []
    for rows in pieces:
        for _, row in rows.iterrows():
            path = out / f"{file_name(row)}{suffix}"
            content = encoder(table.normals(row, frame))
            with files.atomic_open(path) as file:
                file.write(content)
            written.append(path)
    return written


def _png(normals: NDArray[np.float32]) -> bytes:
    return images.encode_image(_picture(normals))


def _picture(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    return encode(normals, normals.any(-1))


def _png16(normals: NDArray[np.float32]) -> bytes:
    levels = np.rint((np.clip(normals, -1, 1) + 1) * 32767.5).astype(np.uint16)
    levels[~normals.any(-1)] = 32768
    done, data = cv2.imencode(".png", np.ascontiguousarray(levels[..., ::-1]))
    if not done:
        raise ValueError(f"cannot encode {levels.shape} {levels.dtype} as PNG")
    return data.tobytes()


def _npy(normals: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, normals, allow_pickle=False)
    return file.getvalue()


def _exr(normals: NDArray[np.float32]) -> bytes:
    import OpenEXR  # OpenCV's wheels come without

    file = io.BytesIO()
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
    OpenEXR.File(header, {"RGB": np.ascontiguousarray(normals)}).write(file)
    return file.getvalue()


_WRITERS: dict[str, tuple[str, Callable[[NDArray[np.float32]], bytes]]] = {
    "png": (".png", _png),
    "png16": (".png", _png16),
    "exr": (".exr", _exr),
    "npy": (".npy", _npy),
}
KINDS = (*_WRITERS, "hf")


# --- a data set ---


def _write_dataset(pieces: Iterable[pd.DataFrame], out: Path, frame: str) -> list[Path]:
    """Everything under a name of its own first: the folder appears whole, or not at all. No rows, no files."""
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: holds files, expected a new or empty folder for the data set")
    half = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(half, ignore_errors=True)
    try:
        names: list[str] = []
        for rows in _portions(pieces):
            names.append(f"train-{len(names):05d}.parquet")
            with files.atomic_open(half / names[-1]) as file:
                _write_rows(file, rows, frame)
        if not names:
            return []
        files.write_text(half / "README.md", _card(frame))
        half.replace(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return [out / name for name in (*names, "README.md")]


def _portions(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The rows of all pieces, as many at once as a file is to hold."""
    held = pd.DataFrame()
    for piece in pieces:
        held = pd.concat([held, piece], ignore_index=True) if len(held) else piece
        while len(held) >= _DATASET_ROWS:
            yield held.iloc[:_DATASET_ROWS]
            held = held.iloc[_DATASET_ROWS:]
    if len(held):
        yield held


def _write_rows(file: IO[bytes], rows: pd.DataFrame, frame: str) -> None:
    kind = _dataset_schema(rows, frame)
    with pq.ParquetWriter(file, kind, compression="zstd") as writer:
        for first in range(0, len(rows), _GROUP_ROWS):
            group = rows.iloc[first : first + _GROUP_ROWS]
            pictures = pd.Series([{"bytes": _png(n), "path": None} for n in table.normals(group, frame)], group.index)
            writer.write_table(pa.Table.from_pandas(group.assign(normal=pictures)[kind.names], kind))


def _dataset_schema(rows: pd.DataFrame, frame: str) -> pa.Schema:
    """Columns in the order of the labels, then what else is there (attributes, say) as pandas has it."""
    ours = [n for n in schema.COLUMNS if n == "normal" or (n in rows and n != "normal_octahedral")]
    others = rows[[name for name in rows if name not in schema.COLUMNS]]
    fields = [schema.SCHEMA.field(n).remove_metadata() for n in ours]
    kind = pa.schema([*fields, *pa.Schema.from_pandas(others, preserve_index=False)])
    features = {f.name: schema.feature(f.type) for f in kind}
    return kind.with_metadata({"frame": frame, "huggingface": json.dumps({"info": {"features": features}})})


def _card(frame: str) -> str:
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: train-*.parquet
---

Surface normals of faces, made by casfne. `normal`: 8-bit RGB, (n + 1) / 2, frame {frame}; (128, 128, 128) is no normal.
"""
