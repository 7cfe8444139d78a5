"""One split's Parquet files: numbered shards of about 64 MB, or a single file where that is enough."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undercut import artifacts
from undercut.ingest.stream import BATCH_ROWS

SHARD_BYTES = 1 << 26
_ROW_GROUP_BYTES = 1 << 24


class Shards:
    """Writes ``train.parquet``, or ``train-00000.parquet`` and on, by row groups of at most 16 MB."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, numbered: bool = False) -> None:
        """Begin; files of an earlier attempt are removed.

        Args:
            folder: the dataset folder.
            name: the split.
            schema: the columns.
            numbered: number a single file as well.
        """
        self._folder, self._name, self._schema, self._numbered = folder, name, schema, numbered
        self._waiting, self._bytes, self.count = list[Any](), 0, 0
        self._writer: Any = None
        for path in artifacts.split_files(folder, name):
            path.unlink()

    def append(self, batch: Any) -> None:
        """Write a record batch, now or with the next ones."""
        rows = sum(b.num_rows for b in self._waiting) + batch.num_rows
        if rows > BATCH_ROWS or sum(b.nbytes for b in self._waiting) + batch.nbytes > _ROW_GROUP_BYTES:
            self._flush()
        self._waiting.append(batch)

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._waiting.clear()
        if self._writer is not None and table.num_rows and self._bytes + table.nbytes > SHARD_BYTES:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._folder / f"{self._name}-{self.count:05d}.parquet", self._schema)
            self.count, self._bytes = self.count + 1, 0
        self._bytes += table.nbytes
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        """Write what waits, and give a single file its plain name."""
        if self._waiting or self._writer is None:
            self._flush()
        self._writer.close()
        if self.count == 1 and not self._numbered:
            (self._folder / f"{self._name}-00000.parquet").rename(self._folder / f"{self._name}.parquet")
