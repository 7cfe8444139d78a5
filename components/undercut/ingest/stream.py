"""Cleaned rows on disk between the passes: an Arrow stream, written in batches of bounded size."""

from pathlib import Path
from typing import Any

import pyarrow as pa

BATCH_ROWS = 16384
BATCH_CHARACTERS = 1 << 22


class RowStream:
    """Takes rows one by one; a batch goes to disk when it is full."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open the file.

        Args:
            path: the file to write.
            schema: the columns.
        """
        self._schema = schema
        self._stream = pa.ipc.new_stream(path, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def append(self, row: tuple[Any, ...], characters: int) -> None:
        """Add a row, whose texts have so many characters together."""
        self._rows.append(row)
        self._characters += characters
        if self._characters > BATCH_CHARACTERS or len(self._rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(zip(*self._rows, strict=True), self._schema, strict=True)
            arrays = [pa.array(values, f.type) for values, f in columns]
            self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows.clear()
            self._characters = 0

    def close(self) -> None:
        """Write what waits and end the file."""
        self._flush()
        self._stream.close()
