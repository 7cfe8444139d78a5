"""Where each staged row goes: into a split, or out under a reason. Arrays in, one array out.

The order of the rules: duplicates and conflicts within a split; near-duplicates, if asked for; rare
labels; splits that no row was given for are cut off the training rows; texts in two splits; labels that
training lacks. Where a row may have several labels or none, its label is the number of its label set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undercut.artifacts import SPLITS
from undercut.ingest.label_sets import LabelSets
from undercut.ingest.rules import CONFLICT, DUPLICATE, MINIMUM_LABEL_ROWS, RARE, REASONS, TWO_SPLITS, UNSEEN
from undercut.ingest.stratify import stratify

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
TRAIN, VALIDATION, TEST = range(len(SPLITS))
# A fate below len(SPLITS) is a split; the others are reasons.
FATES = (*SPLITS, *REASONS)
_PARTS = 16

Fates = NDArray[np.uint8]
# Rejects near-duplicates, of two splits only where the second argument says so.
RejectNear = Callable[[Fates, bool], None]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Staged rows as arrays of shape (rows,): text key, words key, label number, split given, time (or empty).

    ``sets`` is None where every row has one label; otherwise it says which labels each label number stands for.
    """

    text: NDArray[np.uint64]
    words: NDArray[np.uint64]
    label: NDArray[np.int32]
    given: NDArray[np.uint8]
    time: NDArray[np.float64]
    sets: LabelSets | None = None


def decide(keys: Keys, seed: int, near: RejectNear | None = None) -> tuple[Fates, dict[str, float]]:
    """Return each row's index into ``FATES``, and the share of the training rows that each cut split took.

    Memory beside the keys: at most 16 bytes a row, and some 80 bytes for each row of a sixteenth of them, or of
    the most frequent label where that is more (by time: 24 bytes for each training row).
    """
    fates = keys.given.copy()
    for rows in in_parts(keys.text):
        fates[rows] = _without_repeats(keys.text[rows], keys.label[rows], keys.given[rows])
    if near:
        near(fates, False)
    sets = keys.sets or LabelSets.single(int(keys.label.max(initial=-1)) + 1)
    _reject_rare(fates, keys.label, sets)
    shares = {TEST: TEST_SHARE, VALIDATION: VALIDATION_SHARE}
    cut = {split: share for split, share in shares.items() if not (keys.given == split).any()}
    if len(keys.time):
        _cut_newest(fates, keys.time, cut)
    elif keys.sets:
        _cut_by_label_set(fates, keys, keys.sets, cut, seed)
    else:
        _cut_by_label(fates, keys, cut, seed)
    if near and cut:  # texts of two labels that lay in one split may now lie in two
        near(fates, True)
    for rows in in_parts(keys.words):
        _keep_latest(fates, keys.words, rows[fates[rows] < len(SPLITS)])
    unseen = sets.label_rows(_counts(fates, keys.label, TRAIN + 1, len(sets.sizes))) == 0
    _reject_labels(fates, keys.label, sets.holding(unseen), UNSEEN)
    return fates, {SPLITS[split]: share for split, share in cut.items()}


def in_parts(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers, a sixteenth at a time, equal keys together (any byte of a key will do)."""
    parts = keys.view(np.uint8)[::8] % _PARTS
    for part in range(_PARTS):
        rows = np.flatnonzero(parts == part)
        if len(rows):
            yield rows


def starts_of_groups(new: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where groups start in sorted rows, from "differs from the row before", shape (rows - 1,)."""
    return np.flatnonzero(np.r_[True, new])


def _without_repeats(text: NDArray[np.uint64], label: NDArray[np.int32], given: Fates) -> Fates:
    """Return the fates of rows by the rules on equal texts within a split, in the rows' order."""
    order = np.lexsort((given, text))  # stable: equal texts stay in reading order
    text, label, given = text[order], label[order], given[order]
    starts = starts_of_groups((text[1:] != text[:-1]) | (given[1:] != given[:-1]))
    conflict = np.minimum.reduceat(label, starts) != np.maximum.reduceat(label, starts)
    fates = np.full(len(text), FATES.index(DUPLICATE), np.uint8)
    fates[starts] = given[starts]
    fates[np.repeat(conflict, np.diff(np.r_[starts, len(text)]))] = FATES.index(CONFLICT)
    unsorted = np.empty_like(fates)
    unsorted[order] = fates
    return unsorted


def _keep_latest(fates: Fates, words: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
    """Reject those of ``rows`` (all in a split) whose words stand in a later split as well."""
    if not len(rows):
        return
    rows = rows[np.argsort(words[rows])]
    starts = starts_of_groups(words[rows[1:]] != words[rows[:-1]])
    latest = np.repeat(np.maximum.reduceat(fates[rows], starts), np.diff(np.r_[starts, len(rows)]))
    fates[rows[fates[rows] < latest]] = FATES.index(TWO_SPLITS)


def _counts(fates: Fates, label: NDArray[np.int32], splits: int, labels: int) -> NDArray[np.int64]:
    """Return rows a label, shape (labels,), over the first ``splits`` splits."""
    counts: NDArray[np.int64] = np.bincount(label[fates < splits], minlength=labels)
    return counts


def _reject_rare(fates: Fates, label: NDArray[np.int32], sets: LabelSets) -> None:
    """Reject the rows of rare labels, again while that makes other labels of these rows rare."""
    while True:
        rows = sets.label_rows(_counts(fates, label, len(SPLITS), len(sets.sizes)))
        rare = (rows > 0) & (rows < MINIMUM_LABEL_ROWS)
        if not rare.any():
            return
        _reject_labels(fates, label, sets.holding(rare), RARE)


def _reject_labels(fates: Fates, label: NDArray[np.int32], labels: NDArray[np.bool_], reason: str) -> None:
    fates[(fates < len(SPLITS)) & labels[label]] = FATES.index(reason)


def _cut_by_label(fates: Fates, keys: Keys, cut: dict[int, float], seed: int) -> None:
    """Move a share of each label's training rows, chosen by words and seed, into the splits to cut.

    A row's turn depends on its words and not on its place in the file: a file that grows or is sorted
    anew keeps most of its test rows, and texts of the same words go together. A label of three rows
    or more gives every split one.
    """
    count = _counts(fates, keys.label, TRAIN + 1, int(keys.label.max(initial=-1)) + 1)
    before = np.cumsum(count) - count
    parts = (before * _PARTS // max(1, count.sum())).astype(np.uint8)[keys.label]
    for part in range(_PARTS):
        pool = np.flatnonzero((fates == TRAIN) & (parts == part))
        if not len(pool):
            continue
        pool = pool[np.lexsort((shuffled(keys.words[pool], seed), keys.label[pool]))]
        label = keys.label[pool]
        starts = starts_of_groups(label[1:] != label[:-1])
        rank = np.arange(len(pool)) - np.repeat(starts, np.diff(np.r_[starts, len(pool)]))
        taken = np.zeros(len(count), np.int64)
        for split, share in cut.items():
            wanted = np.maximum(1, np.rint(share * count).astype(np.int64)) * (count >= MINIMUM_LABEL_ROWS)
            fates[pool[(rank >= taken[label]) & (rank < (taken + wanted)[label])]] = split
            taken += wanted


def _cut_by_label_set(fates: Fates, keys: Keys, sets: LabelSets, cut: dict[int, float], seed: int) -> None:
    """Move a share of each label's training rows into the splits to cut, in an order of words and seed."""
    pool = np.flatnonzero(fates == TRAIN)
    pool = pool[np.argsort(shuffled(keys.words[pool], seed), kind="stable")]
    fates[pool] = stratify(keys.label[pool].astype(np.int64), sets, cut, TRAIN, MINIMUM_LABEL_ROWS)


def _cut_newest(fates: Fates, time: NDArray[np.float64], cut: dict[int, float]) -> None:
    """Move the newest training rows into the splits to cut: test the newest, validation before it."""
    pool = np.flatnonzero(fates == TRAIN)
    newest_first = pool[np.argsort(time[pool], kind="stable")][::-1]
    taken = 0
    for split, share in cut.items():
        wanted = round(share * len(pool))
        fates[newest_first[taken : taken + wanted]] = split
        taken += wanted


def shuffled(text: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Mix the seed into the keys (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed = text + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
