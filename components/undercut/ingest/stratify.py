"""Stratified splits of rows with several labels: every label in its share in every split.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label
data"): the label with the fewest rows goes first, and each of its rows to the split that still wants most
rows of that label. Rows without a label are placed as if that were a label of its own. Of
a label set with many rows, whole shares are dealt out first, so that only what is left over (a few rows a
set) is placed one by one.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from undercut.ingest.label_sets import LabelSets


def stratify(
    sets: NDArray[np.int64], table: LabelSets, shares: Mapping[int, float], first: int, minimum: int
) -> NDArray[np.int64]:
    """Return the split of each row.

    Args:
        sets: the label set of each row, shape (rows,), in the order in which rows take their turn.
        table: which labels each set has.
        shares: split to the share of all rows that it takes.
        first: the split that takes the rest.
        minimum: a label of so many rows or more is wanted in every split.
    """
    splits = [first, *shares]
    table = _with_unlabelled(table)
    rows = np.bincount(sets, minlength=len(table.sizes))
    label_rows = table.label_rows(rows)
    wanted = _wanted(label_rows, shares, minimum)
    dealt = np.floor(np.outer([1 - sum(shares.values()), *shares.values()], rows)).astype(np.int64)
    dealt *= dealt.min(axis=0) > 0  # of a small set all are placed one by one, or its labels would miss a split
    wanted -= np.array([table.label_rows(share) for share in dealt])
    order = np.argsort(sets, kind="stable")
    rank = np.empty(len(sets), np.int64)
    rank[order] = np.arange(len(sets)) - (np.cumsum(rows) - rows)[sets[order]]
    places = (rank[None] >= np.cumsum(dealt, axis=0)[:, sets]).sum(axis=0)
    _place(np.flatnonzero(places == len(splits)), sets, table, label_rows, wanted, places)
    found: NDArray[np.int64] = np.array(splits, np.int64)[places]
    return found


def _with_unlabelled(table: LabelSets) -> LabelSets:
    """Give sets without a label one of their own."""
    empty = np.flatnonzero(table.sizes == 0)
    after = np.searchsorted(table.sets, empty)
    labels = np.insert(table.labels, after, table.count)
    return LabelSets(sizes=np.maximum(table.sizes, 1), labels=labels, count=table.count + 1)


def _wanted(rows: NDArray[np.int64], shares: Mapping[int, float], minimum: int) -> NDArray[np.int64]:
    """Return how many rows of each label each split wants, shape (splits, labels), whole rows."""
    cut = [np.maximum(1, np.rint(share * rows).astype(np.int64)) * (rows >= minimum) for share in shares.values()]
    return np.array([rows - sum(cut), *cut])


def _place(
    left: NDArray[np.int64],
    sets: NDArray[np.int64],
    table: LabelSets,
    rows: NDArray[np.int64],
    wanted: NDArray[np.int64],
    places: NDArray[np.int64],
) -> None:
    """Place the rows ``left``, those of the label with fewest ``rows`` first; changes ``wanted`` and ``places``."""
    edges = np.r_[0, np.cumsum(table.sizes)]
    labels_of = {s: table.labels[edges[s] : edges[s + 1]] for s in np.unique(sets[left]).tolist()}
    by_label: dict[int, list[int]] = {}
    for row in left.tolist():
        for label in labels_of[sets[row]].tolist():
            by_label.setdefault(label, []).append(row)
    for rarest in sorted(by_label, key=lambda label: rows[label]):
        for row in by_label[rarest]:
            if places[row] < len(wanted):
                continue
            most = wanted[:, rarest] == wanted[:, rarest].max()
            places[row] = np.argmax(np.where(most, wanted.sum(axis=1), -np.inf))
            wanted[places[row], labels_of[sets[row]]] -= 1
