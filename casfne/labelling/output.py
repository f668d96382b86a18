"""Where labels go: a folder here or a bucket, behind one face. A file appears under its name whole, or not at all."""

import io
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from casfne import files
from casfne.errors import InputError, one_line
from casfne.sources import open_filesystem

_TRIES, _PAUSE = 4, 0.5  # of a request to a store, which answers "slow down" at times; seconds, doubled each time


class Output:
    """A folder of labels; light, and the same wherever it is sent.

    Errors of the file system or of the network are OSError, after a few tries where they can pass.
    """

    def __init__(self, where: Path | str) -> None:
        """``where``: a local path, or a URI that `sources.open_filesystem` knows; InputError where it leads nowhere."""
        self.name = str(where)  # for messages
        try:
            fs, root = open_filesystem(self.name)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be reached ({one_line(error)})") from None
        self.is_local = fs.type_name == "local"
        self.where = root if self.is_local else self.name  # absolute: a worker may stand elsewhere

    def require_folder(self) -> None:
        """InputError when the place is a file, or the store does not answer."""
        try:
            kind = self._try(lambda fs, root: fs.get_file_info(root).type)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be reached ({one_line(error)})") from None
        if kind == pafs.FileType.File:
            raise InputError(f"{self.name}: is a file, expected a folder")

    def folders(self) -> list[str]:
        """The names of the folders in it, sorted."""
        return sorted(info.base_name for info in self._list("") if info.type == pafs.FileType.Directory)

    def names(self, folder: str) -> list[str]:
        """The names of the files in one of its folders ("": in itself), sorted; none where there is no such folder."""
        return sorted(self.written_ns(folder))

    def written_ns(self, folder: str) -> dict[str, int]:
        """The same names, with when each was written, in nanoseconds since 1970."""
        found = self._list(folder)
        return {info.base_name: info.mtime_ns or 0 for info in found if info.type == pafs.FileType.File}

    def exists(self, part: str) -> bool:
        """Whether there is such a file."""
        return bool(self._try(lambda fs, root: fs.get_file_info(f"{root}/{part}").type) == pafs.FileType.File)

    def write(self, part: str, fill: Callable[[IO[bytes]], None]) -> None:
        """A file of what ``fill`` writes into it. A store gets it in one go, and shows it when it has it all."""
        if self.is_local:
            with files.atomic_open(Path(self.where) / part) as file:
                fill(file)
            return
        buffer = io.BytesIO()
        fill(buffer)
        self._try(lambda fs, root: _upload(fs, f"{root}/{part}", buffer.getvalue()))

    def metadata(self, part: str, keys: Collection[str]) -> dict[str, str] | None:
        """What a Parquet file says of itself, of these keys; None for a file that is no whole Parquet."""
        try:
            schema = self._try(lambda fs, root: pq.read_schema(f"{root}/{part}", filesystem=fs))
        except pa.ArrowInvalid:
            return None
        said = {k.decode(): v for k, v in (schema.metadata or {}).items()}
        return {key: said[key].decode() for key in keys if key in said}

    def read(self, part: str, columns: list[str] | None = None) -> pa.Table:
        """Columns of a Parquet file; None: all of them."""

        def read(fs: pafs.FileSystem, root: str) -> pa.Table:
            with fs.open_input_file(f"{root}/{part}") as file:
                return pq.ParquetFile(file).read(columns)

        return self._try(read)

    def remove(self, part: str) -> None:
        """Remove a file; one that is not there is no error."""
        try:
            self._try(lambda fs, root: fs.delete_file(f"{root}/{part}"))
        except FileNotFoundError:
            return

    def _list(self, folder: str) -> list[pafs.FileInfo]:
        def listed(fs: pafs.FileSystem, root: str) -> list[pafs.FileInfo]:
            return fs.get_file_info(pafs.FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True))

        return list(self._try(listed))

    def _try(self, request: Callable[[pafs.FileSystem, str], Any]) -> Any:
        """One request; to a store again when it fails, for what fails there can pass."""
        tries = 1 if self.is_local else _TRIES
        for attempt in range(tries):
            try:
                return request(*open_filesystem(self.where))
            except FileNotFoundError:
                raise
            except OSError:
                if attempt == tries - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("there is at least one try")


def _upload(fs: pafs.FileSystem, path: str, content: bytes) -> None:
    with fs.open_output_stream(path) as stream:
        stream.write(content)
