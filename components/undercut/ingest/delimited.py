"""CSV and TSV, record by record, with the physical line each record starts on.

Quoting is RFC 4180, read strictly: a stray quote would otherwise swallow the lines up to the next
quote without a word. A record that does not parse costs its first line only; reading resumes on the
line after it.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from undercut.errors import ConfigurationError
from undercut.ingest.columns import LABEL_NAMES, TEXT_NAMES, normal
from undercut.ingest.lines import EndlessRecord, Lines, open_lines
from undercut.ingest.read import Record
from undercut.ingest.rules import COLUMNS, HEADER, SCHEMA, UNREADABLE

DELIMITERS = ",;\t|"
_LONGEST_NAME = 40


class DelimitedReader:
    """A CSV or TSV file with a header row; the delimiter is the one its header has most of."""

    def __init__(self, path: Path, field: str, uri: str) -> None:
        """Read the header.

        Raises:
            ConfigurationError: there is none, or its quotes do not match.
        """
        self.path, self.field, self.uri = path, field, uri
        self._lines: Lines | None = None
        with open_lines(path, field, uri) as lines:
            header = ""
            for header in lines:
                if header.strip():
                    break
                lines.start_record()
        if not header.strip():
            raise ConfigurationError(field, uri, "a file with rows", "It is empty: write it again")
        self.delimiter = max(DELIMITERS, key=header.count)
        try:
            self.columns = next(csv.reader([header], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise ConfigurationError(
                field, uri, f"a header row on one line ({error})", "Mend the first line"
            ) from error

    @property
    def position(self) -> int:
        """Return the bytes read so far."""
        return self._lines.position if self._lines else 0

    def records(self, text: int, label: int, max_characters: int) -> Iterator[Record]:
        """Yield all records after the header; blank lines are passed over."""
        # The limit belongs to the process; a field beyond it ends a record whose quote never closes.
        csv.field_size_limit(max(131072, 2 * max_characters))
        header = [normal(name) for name in self.columns]
        words = _header_words(self.columns)
        foreign = False
        with open_lines(self.path, self.field, self.uri) as lines:
            self._lines = lines
            rows = _rows(lines, self.delimiter, _Shape(len(header), text, label, max_characters))
            next(rows)
            for row in rows:
                if row is None:
                    yield Record(lines.first, (lines.record[0],), UNREADABLE)
                elif not words.isdisjoint(row) and _is_header(row, header, text, label):
                    foreign = [normal(cell) for cell in row] != header
                    yield Record(lines.first, row, SCHEMA if foreign else HEADER)
                elif foreign:
                    yield Record(lines.first, row, SCHEMA)
                else:
                    yield Record(lines.first, row, "" if len(row) == len(header) else COLUMNS)


class _Shape(NamedTuple):
    """What a record looks like: number of columns, positions of text and label, longest text."""

    width: int
    text: int
    label: int
    max_characters: int

    def swallowed_lines(self, row: Sequence[str]) -> bool:
        """Tell whether a record over several lines is rather rows joined by two stray quotes."""
        return len(row) != self.width or "\n" in row[self.label] or len(row[self.text]) > self.max_characters


def _rows(lines: Lines, delimiter: str, shape: _Shape) -> Iterator[list[str] | None]:
    """Yield each record's fields, or None for a broken one, of which only the first line is used up."""
    parser = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_record()
        try:
            row = next(parser, None)
        except (csv.Error, EndlessRecord):
            row = []
        else:
            if row is None:
                return
            if not lines.record[0].strip():
                continue
        if not row or (len(lines.record) > 1 and shape.swallowed_lines(row)):
            lines.give_back()
            yield None
        else:
            yield row


def _header_words(columns: Sequence[str]) -> frozenset[str]:
    """Return column names in their usual spellings: a row without any is no header, and most are not."""
    names = {*TEXT_NAMES, *LABEL_NAMES, *(name.strip() for name in columns)}
    return frozenset(spelling for name in names for spelling in (name, name.lower(), name.capitalize(), name.upper()))


def _is_header(row: Sequence[str], header: list[str], text: int, label: int) -> bool:
    """Tell whether a row is the header again, or the header of another file."""
    cells = [normal(cell) for cell in row]
    if cells == header:
        return True
    names = all(0 < len(cell) <= _LONGEST_NAME for cell in cells) and len(set(cells)) == len(cells)
    has_text = not {*TEXT_NAMES, header[text]}.isdisjoint(cells)
    return names and has_text and not {*LABEL_NAMES, header[label]}.isdisjoint(cells)
