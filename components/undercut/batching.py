"""Batches of like length under a token budget.

A batch holds as many texts as fit in ``batch_tokens`` once padded to its longest, so that short texts
travel in large batches and next to nothing is padding (on short messages this alone is worth a
factor of two over batches of fixed size).
"""

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
