"""Accuracy by language, and its mean over languages: what a model is worth where it was not trained."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undercut import artifacts
from undercut.intervals import FloatArray, accuracy_interval, bootstrap

COLUMNS = ("language", "lang", "locale")
UNKNOWN = "(none)"


def languages(
    data: Path, table: pa.Table, correct: NDArray[np.bool_], confidence: float, seed: int
) -> dict[str, Any] | None:
    """Return accuracy by language; None if the test rows do not name their language.

    Args:
        data: the dataset folder, whose training rows tell which languages were trained on.
        table: the test rows; the language is in ``language``, ``lang`` or ``locale``.
        correct: whether each was answered right, shape (rows,).
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        ``column``; ``accuracy``, one entry a language with ``language``, ``n``, ``train_rows`` (None if
        the training rows do not name theirs) and the interval; ``macro``, the mean over languages, each
        weighing the same; ``macro_unseen``, the same over languages without training rows.
    """
    column = next((name for name in table.column_names if name.lower() in COLUMNS), None)
    if column is None:
        return None
    values = np.array([str(v) if v is not None else UNKNOWN for v in table[column].to_pylist()])
    trained = _training_rows(data, column)
    names = sorted(set(values.tolist()))
    counts = np.array([[int(correct[values == n].sum()), int((~correct[values == n]).sum())] for n in names])
    unseen = [i for i, name in enumerate(names) if trained is not None and not trained[name]]
    return {
        "column": column,
        "accuracy": [
            {
                "language": name,
                "n": int((values == name).sum()),
                "train_rows": None if trained is None else trained[name],
                **accuracy_interval(correct[values == name], confidence).as_dict(),
            }
            for name in names
        ],
        "macro": macro(counts, confidence, seed),
        "macro_unseen": macro(counts[unseen], confidence, seed) if unseen else None,
    }


def _training_rows(data: Path, column: str) -> Counter[str] | None:
    """Return how many training rows each language has; None if they do not say."""
    table = artifacts.read_split(data, "train")
    if column not in table.column_names:
        return None
    return Counter(str(v) if v is not None else UNKNOWN for v in table[column].to_pylist())


def macro(counts: NDArray[np.int64], confidence: float, seed: int) -> dict[str, float]:
    """Return the mean accuracy over languages with its interval, from right and wrong, shape (languages, 2)."""

    def mean(drawn: FloatArray) -> FloatArray:
        cells = drawn.reshape(-1, len(counts), 2)
        rows = cells.sum(axis=2)
        share = np.divide(cells[:, :, 0], rows, out=np.full(rows.shape, np.nan), where=rows > 0)
        return np.asarray(np.nanmean(share, axis=1))

    return bootstrap(counts.ravel(), mean, confidence, seed).as_dict()
