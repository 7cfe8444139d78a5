"""Open a source: its format by its name, its columns, its records one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from undercut import storage
from undercut.errors import ConfigurationError
from undercut.ingest import columns
from undercut.ingest.lines import is_gzip

FORMATS = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "delimited"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
ALLOWED = "a file named .csv, .tsv, .jsonl or .parquet, or one of these with .gz"
_SEARCHED_RECORDS = 100  # in which a label that is not null tells whether labels are lists
SIGNATURES = {
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"PK\x03\x04": "a zip or Excel file: save it as CSV",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
    b"PAR1": "a Parquet file: let its name end in .parquet",
}


class Record(NamedTuple):
    """One row as read. ``line`` counts from 1: the physical line it starts on, or Parquet's row.

    ``values`` holds one value a column, or the raw line alone where ``fault`` names the reason to
    reject it; ``repair`` is a bit of ``rules.REPAIR_BITS`` or 0.
    """

    line: int
    values: Sequence[object]
    fault: str = ""
    repair: int = 0

    @property
    def characters(self) -> int:
        """Return the size; a list or mapping, whose size is not known, counts as a long text."""
        long = (1 << 16 for value in self.values if isinstance(value, list | dict))
        return sum(len(value) for value in self.values if isinstance(value, str | bytes)) + sum(long)


class Reader(Protocol):
    """What a format offers."""

    columns: list[str]

    @property
    def position(self) -> int:
        """Return the bytes read so far."""

    def records(self, text: int, label: int, max_characters: int) -> Iterator[Record]:
        """Yield all records; ``text`` and ``label`` are column positions."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened source: its setting, its URI without the pin, its file, and where its columns are.

    ``lists`` tells that its labels are lists: a row may have several or none.
    """

    field: str
    uri: str
    path: Path
    reader: Reader
    text: int
    label: int
    extras: dict[int, str]
    lists: bool = False

    @property
    def bytes(self) -> int:
        """Return the file's size."""
        return self.path.stat().st_size


def open_source(field: str, uri: str, text_column: str, label_column: str) -> Source:
    """Open a source, find its columns and see that it has a row.

    Args:
        field: the setting that names the file: ``source``, ``validation_source`` or ``test_source``.
        uri: the file.
        text_column: the text column's name; empty to find it.
        label_column: the label column's name; empty to find it.

    Raises:
        ConfigurationError: the file is missing, unreadable, empty, of another format, without rows,
            or its columns are not found.
    """
    path = storage.local_path(uri, field)
    shown = storage.without_pin(uri)
    reader = _reader(path, field, shown)
    text, label = columns.text_and_label(reader.columns, text_column, label_column, field, shown)
    if text == label:
        raise ConfigurationError("label_column", reader.columns[label], "a column other than the text's")
    rows, lists = 0, False
    for record in islice(reader.records(text, label, 1), _SEARCHED_RECORDS):  # one at a time: they may be large
        rows += 1
        if not record.fault and record.values[label] is not None:
            lists = isinstance(record.values[label], list)
            break
    if not rows:
        raise ConfigurationError(
            field, shown, "a file with rows", "It has a header only: add rows or name another file"
        )
    extras = columns.extra_names(reader.columns, (text, label))
    return Source(field=field, uri=shown, path=path, reader=reader, text=text, label=label, extras=extras, lists=lists)


def _reader(path: Path, field: str, uri: str) -> Reader:
    suffixes = path.suffixes[:-1] if is_gzip(path) else path.suffixes
    form = FORMATS.get(suffixes[-1].lower() if suffixes else "")
    if form is None or path.is_dir():
        raise ConfigurationError(field, uri, ALLOWED)
    _check_first_bytes(path, form, field, uri)
    # Imported here: only the format that is read costs its import.
    if form == "parquet":
        from undercut.ingest.parquet_rows import ParquetReader

        return ParquetReader(path, field, uri)
    if form == "json":
        from undercut.ingest.json_lines import JsonLinesReader

        return JsonLinesReader(path, field, uri)
    from undercut.ingest.delimited import DelimitedReader

    return DelimitedReader(path, field, uri)


def _check_first_bytes(path: Path, form: str, field: str, uri: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise ConfigurationError(field, uri, "a file with rows", "It is empty (0 bytes): write it again")
    if is_gzip(path):
        if head[:2] != b"\x1f\x8b":
            raise ConfigurationError(field, uri, "a gzip file, as its name says", "Take .gz off its name")
        return
    if form == "parquet" and head != b"PAR1":
        raise ConfigurationError(field, uri, "a Parquet file, as its name says", "Write it again, or rename it")
    for signature, what in SIGNATURES.items():
        if form != "parquet" and head.startswith(signature):
            raise ConfigurationError(field, uri, "UTF-8 text", f"It looks like {what}")
