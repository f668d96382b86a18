"""Pictures in Parquet files: a row each, in a column of bytes or, as Hugging Face writes them, struct<bytes, path>.

The column is called `image`, or is the only one of its kind. `image_id`, where there is such a column, is the
picture's name; otherwise the name is the file's and the number of the row. Other columns of text, numbers and truth
values are attributes.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from casfne import sources
from casfne.corpora.record import Columns, Found, Photo, named, rows
from casfne.errors import InputError, one_line

if TYPE_CHECKING:
    import pyarrow as pa


def read(root: str) -> list[Photo]:
    """Every row of a Parquet file, or of all those below a folder, file by file. InputError: no file, one that is
    damaged, no column of pictures."""
    files = [root] if sources.is_archive(root) else list(sources.listing(root, {".parquet"}).values())
    return named([one for file in files for one in find(file)], "parquet", root)


def find(path: str) -> list[Found]:
    """The rows of one file with their attributes, in order. Pictures are not read."""
    table = _scalars(path)
    said: Columns = {name: _column(table[name]) for name in table.column_names if name != "image_id"}
    stem = os.path.splitext(os.path.basename(path.partition("?")[0]))[0]
    ids = table["image_id"].to_pylist() if "image_id" in table.column_names else [None] * table.num_rows
    names = [f"{stem}/{row:08d}" if i is None else str(i) for row, i in enumerate(ids)]
    each = rows(said, table.num_rows)
    return [Found(f"{name}.row", sources.join(path, str(row)), each[row]) for row, name in enumerate(names)]


def _column(cells: "pa.ChunkedArray") -> Sequence[Any] | NDArray:
    """Numbers as an array where none is missing, which takes least; anything else as a list."""
    from pyarrow import types

    whole = not cells.null_count and types.is_primitive(cells.type)
    return cells.to_numpy() if whole else cells.to_pylist()


def _scalars(path: str) -> "pa.Table":
    """The columns that are attributes, and `image_id`; only the row count where there are none."""
    import pyarrow as pa
    from pyarrow import parquet

    filesystem, inside = sources.open_filesystem(path)
    try:
        with filesystem.open_input_file(inside) as stream:
            file = parquet.ParquetFile(stream)
            sources.picture_column(path, file.schema_arrow)
            return file.read([field.name for field in file.schema_arrow if _is_scalar(field.type)])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a whole Parquet file ({one_line(error)})") from None


def _is_scalar(kind: "pa.DataType") -> bool:
    from pyarrow import types

    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests) or (types.is_dictionary(kind) and _is_scalar(kind.value_type))
