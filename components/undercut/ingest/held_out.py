"""Which part of raw text is held out for validation: whole documents, or blocks of paragraphs where there are few."""

import numpy as np
from numpy.typing import NDArray

from undercut.ingest.raw_rules import SPLITS
from undercut.ingest.split import shuffled, starts_of_groups

HELD_OUT_SHARE = 0.05
# Fewer documents than this cannot be held out whole; then blocks of paragraphs are.
MINIMUM_DOCUMENTS, BLOCK_PARAGRAPHS = 20, 64


def hold_out(
    fates: NDArray[np.uint8], words: NDArray[np.uint64], documents: NDArray[np.uint32], usable: int, seed: int
) -> str:
    """Move a twentieth of the documents to the validation split; memory is at most 24 bytes a paragraph.

    A document's turn depends on the words of its first paragraph and the seed, so that a folder that grows keeps
    most of what is held out.

    Args:
        fates: each paragraph's index into ``FATES``, changed in place, shape (paragraphs,).
        words: each paragraph's words key.
        documents: each paragraph's document, in rising order.
        usable: how many documents no rule rejects.
        seed: chooses what is held out.

    Returns:
        What is held out as one: ``document`` or ``block``.
    """
    by = "document" if usable >= MINIMUM_DOCUMENTS else "block"
    kept = np.flatnonzero(fates == 0)
    block = min(BLOCK_PARAGRAPHS, max(1, len(kept) // MINIMUM_DOCUMENTS))
    unit = documents[kept] if by == "document" else (np.arange(len(kept)) // block).astype(np.uint32)
    starts = starts_of_groups(unit[1:] != unit[:-1])
    if len(kept) < 2:
        return by
    order = np.argsort(shuffled(words[kept[starts]], seed))
    held = np.zeros(len(starts), np.bool_)
    held[order[: max(1, round(HELD_OUT_SHARE * len(starts)))]] = True
    fates[kept[np.repeat(held, np.diff(np.r_[starts, len(kept)]))]] = SPLITS.index("unlabelled_validation")
    return by
