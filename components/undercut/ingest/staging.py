"""First pass: read every source once, clean each row, and stage the good ones on disk.

Texts and other columns go to an Arrow stream in batches. In memory stay, for each row, two 8-byte
keys of its text, its label (4 bytes), the split it was given in (1) and what was repaired (1): 22
bytes, and 8 more for its time where the split is by time. That is 0.45 GB for twenty million rows,
however long their texts are.
"""

import contextlib
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from undercut import events
from undercut.errors import ConfigurationError
from undercut.ingest import columns
from undercut.ingest.clean import Rejected, as_string, clean_extra, read_time, text_keys
from undercut.ingest.label_sets import LabelSets, clean_labels
from undercut.ingest.read import Record, Source
from undercut.ingest.rules import MAX_LABEL_CHARACTERS, NO_SPLIT, NO_TIME, REJECTED, Tally
from undercut.ingest.split import TEST, TRAIN, VALIDATION, Keys
from undercut.ingest.stream import RowStream
from undercut.ingest.text_rules import TextRules

MAX_LABELS = 10_000
_PROGRESS_SECONDS, _PROGRESS_ROWS = 0.5, 4096
_FIELDS = {"source": TRAIN, "validation_source": VALIDATION, "test_source": TEST}
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "dev", "valid", "val"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


@dataclass
class Rows:
    """What memory holds of the staged rows: one value a row in each array, in the order on disk."""

    texts: "array[int]" = field(default_factory=lambda: array("Q"))
    words: "array[int]" = field(default_factory=lambda: array("Q"))
    labels: "array[int]" = field(default_factory=lambda: array("i"))
    given: "array[int]" = field(default_factory=lambda: array("B"))
    repairs: "array[int]" = field(default_factory=lambda: array("B"))
    times: "array[float]" = field(default_factory=lambda: array("d"))


class _Clean(NamedTuple):
    text: str
    labels: tuple[str, ...]
    extras: list[str | None]
    repairs: int
    given: int
    time: float


@dataclass(kw_only=True)
class Staged:
    """The first pass's result: the file on disk, what memory holds, and the rows rejected so far.

    ``label_numbers`` gives each label its number and ``label_sets`` each set of labels its number in
    ``rows.labels``, in the order in which they were met: where a row has one label, the two are one.
    ``columns`` are the extra columns; ``rows_read`` is one number a source.
    """

    path: Path
    columns: list[str]
    multi_label: bool = False
    rows: Rows = field(default_factory=Rows)
    label_numbers: dict[str, int] = field(default_factory=dict)
    label_sets: dict[tuple[str, ...], int] = field(default_factory=dict)
    rejected: Tally = field(default_factory=lambda: Tally(REJECTED))
    rows_read: list[int] = field(default_factory=list)

    @property
    def sets(self) -> LabelSets:
        """Return which labels each set has."""
        numbers = self.label_numbers
        return LabelSets.of([[numbers[label] for label in labels] for labels in self.label_sets], len(numbers))

    @property
    def keys(self) -> Keys:
        """Return what the split is decided by, without copying it."""
        rows = self.rows
        return Keys(
            text=np.frombuffer(rows.texts, np.uint64),
            words=np.frombuffer(rows.words, np.uint64),
            label=np.frombuffer(rows.labels, np.int32),
            given=np.frombuffer(rows.given, np.uint8),
            time=np.frombuffer(rows.times, np.float64),
            sets=self.sets if self.multi_label else None,
        )

    def keep(self, clean: _Clean, timed: bool) -> None:
        """Note a row that goes on.

        Raises:
            ConfigurationError: there are more labels than a classifier could learn.
        """
        number = self.label_sets.get(clean.labels)
        if number is None:
            number = self._number(clean.labels)
        text, words = text_keys(clean.text)
        self.rows.texts.append(text)
        self.rows.words.append(words)
        self.rows.labels.append(number)
        self.rows.given.append(clean.given)
        self.rows.repairs.append(clean.repairs)
        if timed:
            self.rows.times.append(clean.time)

    def _number(self, labels: tuple[str, ...]) -> int:
        """Number a set of labels that was not met before, and its labels."""
        for label in labels:
            if self.label_numbers.setdefault(label, len(self.label_numbers)) >= MAX_LABELS:
                allowed = f"a column with at most {MAX_LABELS:,} different labels"
                remedy = f"It looks like free text ('{label[:40]}'): set label_column to another column"
                raise ConfigurationError("label_column", f"more than {MAX_LABELS:,} labels", allowed, remedy)
        return self.label_sets.setdefault(labels, len(self.label_sets))


class _Cleaner:
    """Applies the row rules to one source's records."""

    def __init__(
        self, source: Source, names: Sequence[str], rules: TextRules, split: str, separator: str | None
    ) -> None:
        by_name = {name: i for i, name in source.extras.items()}
        self._extras = [by_name.get(name) for name in names]
        self._text, self._label, self._rules = source.text, source.label, rules
        self._given, self._labels, self._separator = _FIELDS[source.field], dict[str, tuple[str, ...]](), separator
        kind, _, column = split.partition(":")
        own = column if self._given == TRAIN else ""
        at = columns.position(source.reader.columns, own, "split", source.uri) if own else None
        self._split_at, self._time_at = (at if kind == "column" else None), (at if kind == "time" else None)

    def clean(self, record: Record) -> _Clean:
        """Return the row; raises Rejected with the reason."""
        if record.fault:
            raise Rejected(record.fault)
        values, given, moment = record.values, self._given, 0.0
        labels = self._clean_labels(values[self._label])
        text, repairs, language = self._rules.clean(values[self._text])
        if self._split_at is not None:
            name = as_string(values[self._split_at]) or ""
            given = _SPLIT_NAMES.get(name.strip().casefold(), -1)
            if given < 0:
                raise Rejected(NO_SPLIT)
        if self._time_at is not None:
            read = read_time(values[self._time_at])
            if read is None:
                raise Rejected(NO_TIME)
            moment = read
        extras = [None if i is None else clean_extra(values[i]) for i in self._extras]
        if language:
            extras.append(language)
        return _Clean(text, labels, extras, repairs | record.repair, given, moment)

    def _clean_labels(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, str):
            return clean_labels(value, self._separator)
        known = self._labels.get(value)
        if known is None:
            known = clean_labels(value, self._separator)
            if len(self._labels) < MAX_LABELS and len(value) <= MAX_LABEL_CHARACTERS:  # before it was trimmed
                self._labels[value] = known
        return known

    def text(self, record: Record) -> object:
        """Return the value of the text's column; None for a record that was not read."""
        return None if record.fault else record.values[self._text]

    def show(self, record: Record) -> str:
        """Return what an example of the record says."""
        if record.fault:
            return " | ".join(str(value) for value in record.values)
        return as_string(record.values[self._text]) or ""


def _open_stream(path: Path, names: Sequence[str]) -> RowStream:
    """Open the stream on disk: row (number over all sources), file (source number), line, text, extras."""
    fixed = [("row", pa.int64()), ("file", pa.int8()), ("line", pa.int64()), ("text", pa.string())]
    return RowStream(path, pa.schema([*fixed, *((f"extra {name}", pa.string()) for name in names)]))


class _Progress:
    """Reports the bytes read, at most twice a second."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._total = sum(source.bytes for source in sources)
        self._before, self._reported = 0, time.monotonic()

    def report(self, position: int, rows: int) -> None:
        if time.monotonic() - self._reported > _PROGRESS_SECONDS:
            self._reported = time.monotonic()
            events.progress(self._before + position, self._total, f"{rows:,} rows read")

    def next_source(self, source: Source) -> None:
        self._before += source.bytes


def stage(sources: Sequence[Source], path: Path, rules: TextRules, split: str, separator: str | None = None) -> Staged:
    """Read all sources and write the rows that no rule of the first pass rejects to ``path``.

    Args:
        sources: the opened sources, the main one first.
        path: the file to write.
        rules: what is done to each text; where they tell languages, the last extra column is the language.
        split: the setting; ``column:NAME`` and ``time:NAME`` name a column of the main source.
        separator: what stands between the labels of a row, empty where they come as lists; None: a row has one label.

    Raises:
        ConfigurationError: a file is damaged, the split's column is not there, or there are more
            labels than a classifier could learn.
    """
    names = list(dict.fromkeys(name for source in sources for name in source.extras.values()))
    cleaners = [_Cleaner(source, names, rules, split, separator) for source in sources]
    if rules.wanted:
        names = [*names, next(name for name in ("language", "language_", "language__") if name not in names)]
    staged = Staged(path=path, columns=names, multi_label=separator is not None)
    progress, row = _Progress(sources), 0
    with contextlib.closing(_open_stream(path, names)) as file:
        for number, (source, cleaner) in enumerate(zip(sources, cleaners, strict=True)):
            before = row
            records = source.reader.records(source.text, source.label, rules.max_characters)
            for record in rules.ahead(records, cleaner.text, lambda record: record.characters):
                if row % _PROGRESS_ROWS == 0:
                    progress.report(source.reader.position, row)
                try:
                    clean = cleaner.clean(record)
                except Rejected as rejected:
                    if staged.rejected.add(str(rejected)):
                        staged.rejected.show(str(rejected), source.uri, record.line, cleaner.show(record))
                else:
                    staged.keep(clean, split.startswith("time:"))
                    characters = len(clean.text) + sum(len(extra) for extra in clean.extras if extra)
                    file.append((row, number, record.line, clean.text, *clean.extras), characters)
                row += 1
            staged.rows_read.append(row - before)
            progress.next_source(source)
    return staged
