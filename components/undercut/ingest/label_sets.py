"""Rows with several labels or none: from cells to label sets, and what the rules on labels do to sets.

A row's label is then a set of labels. Sets are numbered as they are met, so that the rest of ingest goes
on by one number a row; this table says which labels a set has. A data set of one label a row is the case
in which every set has one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undercut.errors import ConfigurationError
from undercut.ingest.clean import Rejected, as_string, clean_label
from undercut.ingest.rules import NO_LABEL

SEPARATOR_CHARACTERS = 8


def check_separator(separator: str) -> None:
    """Refuse a ``label_separator`` that could stand in a label.

    Raises:
        ConfigurationError: it is long, or holds a letter or digit.
    """
    if len(separator) > SEPARATOR_CHARACTERS or any(c.isalnum() for c in separator):
        allowed = f"up to {SEPARATOR_CHARACTERS} characters that are no letters or digits, such as ; or |"
        raise ConfigurationError("label_separator", separator, allowed, "Leave it empty for one label a row")


def clean_labels(value: object, separator: str) -> tuple[str, ...]:
    """Return the sorted labels of a cell: of a list, or of a string cut at the separator; none if it is empty.

    Raises:
        Rejected: the cell is absent, or one of its labels is missing or cannot be one.
    """
    if isinstance(value, list):
        return tuple(sorted({clean_label(part) for part in value}))
    if value is None:
        raise Rejected(NO_LABEL)
    text = as_string(value) if separator else None
    if text is None:
        return (clean_label(value),)
    return tuple(sorted({clean_label(part) for part in text.split(separator) if part.strip()}))


@dataclass(frozen=True, kw_only=True)
class LabelSets:
    """Which labels each set has: ``sizes`` of shape (sets,), ``labels`` one set after the other.

    ``count`` is the number of labels.
    """

    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, sets: Collection[Sequence[int]], count: int) -> "LabelSets":
        """Build the table from each set's label numbers."""
        sizes = np.fromiter(map(len, sets), np.int64, len(sets))
        labels = np.fromiter((label for members in sets for label in members), np.int64, int(sizes.sum()))
        return cls(sizes=sizes, labels=labels, count=count)

    @classmethod
    def single(cls, count: int) -> "LabelSets":
        """Return the table of a data set of one label a row: set i has label i."""
        return cls(sizes=np.ones(count, np.int64), labels=np.arange(count), count=count)

    @property
    def sets(self) -> NDArray[np.int64]:
        """Return the set that each entry of ``labels`` belongs to."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def label_rows(self, set_rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows a label, shape (labels,), from rows a set, shape (sets,)."""
        rows = np.bincount(self.labels, weights=np.repeat(set_rows, self.sizes), minlength=self.count)
        return rows.astype(np.int64)

    def holding(self, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which sets hold one of the labels marked, shape (sets,)."""
        held = np.zeros(len(self.sizes), np.bool_)
        held[self.sets[labels[self.labels]]] = True
        return held

    def lists(self, numbers: NDArray[np.int32]) -> pa.ListArray:
        """Return each set's labels, ascending, under the new ``numbers`` of the labels, shape (labels,)."""
        renumbered = numbers[self.labels]
        order = np.lexsort((renumbered, self.sets))
        offsets = np.r_[0, np.cumsum(self.sizes)].astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(renumbered[order]))
