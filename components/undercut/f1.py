"""F1 of label sets with intervals: micro, macro and label by label; the difference of two models on the same rows.

Micro-F1 counts every decision alike: 2 * hits / (labels given + labels true), over all rows and labels.
Macro-F1 is the mean of the labels' own, over labels that occur. Rows are what is resampled (see
:mod:`undercut.intervals`): the labels of a text stand and fall together. Zeros and ones have shape
(rows, labels).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut.intervals import FloatArray, Interval, bootstrap

Sets = NDArray[np.int64]
AVERAGES = ("micro_f1", "macro_f1")


def _ratio(hits: FloatArray, total: FloatArray) -> FloatArray:
    """Return 2 * hits / total, zero where there is nothing."""
    return np.divide(2 * hits, total, out=np.zeros_like(hits, dtype=np.float64), where=total > 0)


def _micro(truth: Sets, answers: Sets) -> Callable[[FloatArray], FloatArray]:
    """Return micro-F1 as a function of how often each row occurs, shape (resamples, rows)."""
    hits, total = (truth & answers).sum(axis=1), (truth + answers).sum(axis=1)
    return lambda counts: _ratio(counts @ hits, counts @ total)


def _macro(truth: Sets, answers: Sets) -> Callable[[FloatArray], FloatArray]:
    """Return macro-F1 as a function of how often each row occurs, shape (resamples, rows)."""
    hits, total = (truth & answers).astype(np.float64), (truth + answers).astype(np.float64)

    def mean(counts: FloatArray) -> FloatArray:
        totals = counts @ total
        return np.asarray(_ratio(counts @ hits, totals).sum(axis=1) / np.maximum((totals > 0).sum(axis=1), 1))

    return mean


STATISTICS = {"micro_f1": _micro, "macro_f1": _macro}


def f1_interval(average: str, truth: Sets, answers: Sets, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return ``micro_f1`` or ``macro_f1`` with its bootstrap interval; all NaN for no rows."""
    (truth, answers), counts = _distinct(truth, answers)
    return bootstrap(counts, STATISTICS[average](truth, answers), confidence, seed)


def f1_difference(
    average: str, truth: Sets, first: Sets, second: Sets, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the interval of the F1 of ``first`` minus that of ``second`` on the same rows, resampled in pairs."""
    (truth, first, second), counts = _distinct(truth, first, second)
    one, two = STATISTICS[average](truth, first), STATISTICS[average](truth, second)
    return bootstrap(counts, lambda c: one(c) - two(c), confidence, seed)


def _distinct(*parts: Sets) -> tuple[list[Sets], NDArray[np.int64]]:
    """Return the distinct rows of matrices that lie side by side, and how often each occurs."""
    rows, counts = np.unique(np.hstack(parts), axis=0, return_counts=True)
    return np.split(rows, len(parts), axis=1), counts


def per_label(
    truth: Sets, answers: Sets, labels: list[str], confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Return precision, recall, F1 with the ends of its interval, and rows of each label."""
    found = []
    for i, label in enumerate(labels):
        interval = f1_interval("micro_f1", truth[:, [i]], answers[:, [i]], confidence, seed)
        hits, rows, given = int((truth[:, i] & answers[:, i]).sum()), int(truth[:, i].sum()), int(answers[:, i].sum())
        found.append(
            {
                "label": label,
                "precision": hits / max(1, given),
                "recall": hits / max(1, rows),
                "f1": interval.value,
                "f1_low": interval.low,
                "f1_high": interval.high,
                "n": rows,
            }
        )
    return found
