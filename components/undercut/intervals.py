"""Confidence intervals by the bootstrap: how far a figure would move on other rows of the same kind.

Percentile intervals over resamples of the rows (Efron & Tibshirani 1993, chapter 13). A resample is
drawn as counts over what can be told apart (cells of a confusion matrix, pairs of right and wrong),
which is the same distribution as drawing rows, and fast for any number of rows.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A point estimate and the two ends of its interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return asdict(self)


def bootstrap(
    counts: IntArray,
    statistic: Callable[[FloatArray], FloatArray],
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Bootstrap a statistic of counted outcomes.

    Args:
        counts: how often each outcome occurred, shape (outcomes,).
        statistic: from counts of shape (resamples, outcomes) to values of shape (resamples,).
        confidence: of the interval.
        seed: of the resampling.
        resamples: how many.

    Returns:
        The statistic of ``counts`` and its percentile interval; all NaN for no rows.
    """
    total = int(counts.sum())
    if total == 0:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    occurring = np.flatnonzero(counts)
    drawn = np.zeros((resamples, len(counts)))
    drawn[:, occurring] = np.random.default_rng(seed).multinomial(total, counts[occurring] / total, size=resamples)
    values = statistic(drawn)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value=float(statistic(counts[None].astype(float))[0]), low=float(low), high=float(high))


def accuracy_interval(correct: NDArray[np.bool_], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the interval of the share of ``correct`` rows, shape (rows,)."""
    counts = np.array([int(correct.sum()), int((~correct).sum())])
    return bootstrap(counts, lambda c: c[:, 0] / c.sum(axis=1), confidence, seed)


def macro_f1_interval(confusion: IntArray, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the interval of macro-F1 from a confusion matrix, shape (labels, labels), truth in rows."""
    labels = len(confusion)
    return bootstrap(confusion.ravel(), lambda c: macro_f1(c.reshape(-1, labels, labels)), confidence, seed)


def macro_f1(confusions: FloatArray) -> FloatArray:
    """Return the mean F1 over labels that occur, for matrices of shape (n, labels, labels)."""
    hits = np.einsum("nii->ni", confusions)
    total = confusions.sum(axis=2) + confusions.sum(axis=1)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits, dtype=float), where=total > 0)
    return np.asarray(f1.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1))


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the interval of the accuracy of ``first`` minus that of ``second`` on the same rows.

    Both have shape (rows,); resampling rows keeps the pairs together, which is what makes a difference
    of a point visible on a few thousand rows.
    """
    counts = np.array([int((first & ~second).sum()), int((~first & second).sum()), int((first == second).sum())])
    return bootstrap(counts, lambda c: (c[:, 0] - c[:, 1]) / c.sum(axis=1), confidence, seed)
