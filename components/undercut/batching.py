"""Batches of like length under a token budget; packed rows in an order that needs no memory.

A batch holds as many texts as fit in ``batch_tokens`` once padded to its longest, so that short texts
travel in large batches and next to nothing is padding (on short messages this alone is worth a
factor of two over batches of fixed size).

Text without labels is packed instead: documents one after another, cut into rows of equal length. The
order of the rows is a pseudo-random permutation that is computed, not stored, so that a corpus of any
size is shuffled in constant memory and any position of the stream can be found at once.
"""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def length_batches(lengths: Indices, batch_tokens: int, seed: int | None) -> list[Indices]:
    """Group texts of like length.

    Args:
        lengths: tokens of each text, shape (texts,).
        batch_tokens: the budget of one batch, padding included. A longer text gets a batch alone.
        seed: shuffles texts of equal length and the order of batches; None keeps both sorted.

    Returns:
        Arrays of indices into ``lengths``; each index in exactly one of them.
    """
    generator = np.random.default_rng(seed)
    ties = generator.random(len(lengths)) if seed is not None else np.arange(len(lengths))
    batches: list[Indices] = []
    current: list[int] = []
    for index in np.lexsort((ties, lengths)):
        if current and (len(current) + 1) * lengths[index] > batch_tokens:
            batches.append(np.array(current, dtype=np.int64))
            current = []
        current.append(int(index))
    if current:
        batches.append(np.array(current, dtype=np.int64))
    if seed is not None:
        generator.shuffle(batches)
    return batches


def pack(texts: Iterable[Sequence[int]], begin: int | None, end: int, length: int) -> Indices:
    """Join tokenised texts, each between ``begin`` (if any) and ``end``, and cut them into rows.

    Returns:
        Token ids, shape (rows, length). What does not fill the last row is left out.
    """
    first = [] if begin is None else [begin]
    stream = np.array([token for text in texts for token in (*first, *text, end)], dtype=np.int64)
    return stream[: len(stream) // length * length].reshape(-1, length)


class ShuffledBatches(Sequence[Indices]):
    """Batches ``first`` to ``first + count`` of the endless stream of passes over ``rows`` rows.

    Every pass visits each row once in an order of its own; a batch that straddles two passes takes the
    end of one and the start of the next.

    Args:
        rows: rows of the corpus.
        rows_per_batch: rows of every batch.
        first: number of the stream's batch that comes first here.
        count: batches here.
        seed: of the order.
    """

    def __init__(self, rows: int, rows_per_batch: int, first: int, count: int, seed: int) -> None:
        self._rows, self._per_batch, self._first, self._count, self._seed = rows, rows_per_batch, first, count, seed

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Indices: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Indices]: ...
    def __getitem__(self, index: int | slice) -> Indices | Sequence[Indices]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        start = (self._first + index) * self._per_batch
        passes, places = np.divmod(np.arange(start, start + self._per_batch, dtype=np.int64), self._rows)
        found = np.empty_like(places)
        for number in np.unique(passes):
            here = passes == number
            found[here] = permuted(places[here], self._rows, self._seed * 1_000_003 + int(number))
        return found


def permuted(places: Indices, size: int, seed: int) -> Indices:
    """Return where a seeded permutation of ``range(size)`` sends ``places``.

    A Feistel network of six rounds over the smallest even number of bits that holds ``size``; what
    lands outside is sent on until it lands inside ("cycle walking", Black & Rogaway 2002).
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.default_rng(seed).integers(0, 1 << 63, size=6, dtype=np.uint64)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        values = found[outside]
        left, right = values >> np.uint64(half), values & mask
        for key in keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(7) & mask)
        found[outside] = left << np.uint64(half) | right
        outside = found >= size
    return found.astype(np.int64)
