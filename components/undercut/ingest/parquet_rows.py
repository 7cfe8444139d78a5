"""Parquet, streamed by small batches; a record's line is its row number from 1."""

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undercut.errors import ConfigurationError
from undercut.ingest.lines import is_gzip
from undercut.ingest.read import Record

_BATCH_ROWS, _BATCH_BYTES = 1024, 1 << 24


class ParquetReader:
    """A Parquet file."""

    def __init__(self, path: Path, field: str, uri: str) -> None:
        """Read the schema.

        Raises:
            ConfigurationError: the file is damaged.
        """
        self.path, self.field, self.uri = path, field, uri
        self._share = 0.0
        with self._open() as file:
            self.columns: list[str] = file.schema_arrow.names

    @property
    def position(self) -> int:
        """Return the bytes read so far, taken from the share of rows."""
        return int(self._share * self.path.stat().st_size)

    def records(self, text: int, label: int, max_characters: int) -> Iterator[Record]:
        """Yield all records."""
        line = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), use_threads=False):
                for values in zip(*(_values(c, i == label) for i, c in enumerate(batch.columns)), strict=True):
                    line += 1
                    yield Record(line, values)
                self._share = line / file.metadata.num_rows

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            # Without pre_buffer and with a small buffer a row group streams through: 64 MB where the
            # defaults hold a whole column of a 300 MB file.
            options = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
            with _seekable(self.path) as path, pq.ParquetFile(path, **options) as file:
                yield file
        except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno:  # of the disk, not of the file's content
                raise
            raise ConfigurationError(self.field, self.uri, "a complete Parquet file", "Write it again") from error


@contextmanager
def _seekable(path: Path) -> Iterator[Path]:
    """Decompress a ``.parquet.gz`` to a temporary file: Parquet is read from its end."""
    if not is_gzip(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as plain:
        with gzip.open(path) as stream:
            shutil.copyfileobj(stream, plain, 1 << 20)
        plain.flush()
        yield Path(plain.name)


def _batch_rows(metadata: Any) -> int:
    """Return how many rows to hold at a time: fewer where the file's row groups say that rows are large."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1.0, largest))))


def _values(column: Any, lists: bool) -> list[object]:
    """Return a column's values; strings, with ``lists`` also those in lists, as bytes: Arrow does not check UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    if lists and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        inner = column.type.value_type
        if pa.types.is_string(inner) or pa.types.is_large_string(inner):
            column = column.cast(pa.large_list(pa.large_binary()))
    values: list[object] = column.to_pylist()
    return values
