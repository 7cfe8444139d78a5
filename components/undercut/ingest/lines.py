"""Physical lines of a text file, plain or gzip, with their numbers and the bytes read so far.

A line is what ends in a line feed, so numbers are those an editor shows. Bytes that are not UTF-8
come as lone surrogates (PEP 383) for the row rules to count. A line over ``MAX_LINE`` characters is
cut there, so that a file without line feeds does not fill the memory: a row's rest is passed over, and the
row rules reject what is left of it; raw text goes on with the rest.
For the same reason a record may not go on for more than ``MAX_RECORD_LINES`` lines.
"""

import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undercut.errors import ConfigurationError

MAX_LINE = 1 << 23
MAX_RECORD_LINES = 100_000


class EndlessRecord(Exception):
    """A record that goes on for more than ``MAX_RECORD_LINES`` lines."""


class Lines:
    """An iterator over lines that can take back the lines of a record which turned out broken.

    Attributes:
        first: number of the current record's first line, from 1.
        record: the current record's lines.
    """

    def __init__(self, stream: io.TextIOWrapper, raw: io.BufferedReader, in_parts: bool) -> None:
        self._in_parts = in_parts
        self.first = 1
        self.record: list[str] = []
        self._stream, self._raw = stream, raw
        self._readline = stream.readline
        self._size = os.fstat(raw.fileno()).st_size
        self._returned: deque[str] = deque()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if len(self.record) >= MAX_RECORD_LINES:
            raise EndlessRecord
        line = self._returned.popleft() if self._returned else self._readline(MAX_LINE)
        if not line:
            raise StopIteration
        if len(line) >= MAX_LINE and line[-1] != "\n" and not self._in_parts:
            self._skip_rest()
        self.record.append(line)
        return line

    def start_record(self) -> None:
        """Let the next line be the first of a new record."""
        self.first += sum(line[-1] == "\n" for line in self.record) if self._in_parts else len(self.record)
        self.record.clear()

    def give_back(self) -> None:
        """Take back all lines of the record but the first."""
        self._returned.extendleft(reversed(self.record[1:]))
        del self.record[1:]

    @property
    def position(self) -> int:
        """Return the bytes of the file (compressed, if it is) that were read; of a closed one, its size."""
        return self._size if self._raw.closed else self._raw.tell()

    def _skip_rest(self) -> None:
        while (part := self._readline(MAX_LINE)) and part[-1] != "\n":
            pass


def is_gzip(path: Path) -> bool:
    """Tell from its name whether a file is compressed."""
    return path.suffix.lower() == ".gz"


@contextmanager
def open_lines(path: Path, field: str, uri: str, in_parts: bool = False) -> Iterator[Lines]:
    """Open a text file, decompressing it if its name ends in ``.gz``.

    Args:
        path: the file.
        field: the setting that names it, for errors.
        uri: its name, for errors.
        in_parts: read a line over ``MAX_LINE`` characters as several, and lose nothing of it.

    Raises:
        ConfigurationError: the gzip stream is damaged or cut short.
    """
    with path.open("rb") as raw:
        binary = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 17) if is_gzip(path) else raw
        stream = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
        try:
            yield Lines(stream, raw, in_parts)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            remedy = f"Copy the file again: {str(error).rstrip('.')}"
            raise ConfigurationError(field, uri, "a complete gzip file", remedy) from error
