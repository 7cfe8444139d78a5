"""JSON Lines: one object a line; the first object's keys are the columns."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from undercut.errors import ConfigurationError
from undercut.ingest.lines import Lines, open_lines
from undercut.ingest.read import Record
from undercut.ingest.rules import JSON, KEYS, REPAIR_BITS, SCHEMA

_SEARCHED_LINES = 1000


class JsonLinesReader:
    """A file with one JSON object a line."""

    def __init__(self, path: Path, field: str, uri: str) -> None:
        """Read the first object's keys.

        Raises:
            ConfigurationError: none of the first thousand lines is a JSON object.
        """
        self.path, self.field, self.uri = path, field, uri
        self._lines: Lines | None = None
        first, begins = None, ""
        with open_lines(path, field, uri) as lines:
            for line in islice(lines, _SEARCHED_LINES):
                begins = begins or line.strip()[:3]
                first = parse(line) or None
                if first:
                    break
                lines.start_record()
        if first is None or begins in ("[", "[{"):
            remedy = "Write one object a line, not a list of objects or an indented one"
            raise ConfigurationError(field, uri, "JSON Lines: a JSON object on each line", remedy)
        self.columns = list(first)

    @property
    def position(self) -> int:
        """Return the bytes read so far."""
        return self._lines.position if self._lines else 0

    def records(self, text: int, label: int, max_characters: int) -> Iterator[Record]:
        """Yield all records; blank lines are passed over."""
        known = frozenset(self.columns)
        needed = {self.columns[text], self.columns[label]}
        with open_lines(self.path, self.field, self.uri) as lines:
            self._lines = lines
            for line in lines:
                content = parse(line)
                if content is None:
                    if line.strip():
                        yield Record(lines.first, (line,), JSON)
                elif content.keys() <= known:
                    yield Record(lines.first, [content.get(key) for key in self.columns])
                elif needed <= content.keys():
                    yield Record(lines.first, [content.get(key) for key in self.columns], repair=REPAIR_BITS[KEYS])
                else:
                    yield Record(lines.first, (line,), SCHEMA)
                lines.start_record()


def parse(line: str) -> dict[str, Any] | None:
    """Return a line's JSON object, or None."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
