"""Confidence intervals: how far a figure would move on other rows of the same kind.

Accuracy has Wilson's score interval, which holds for few rows and for none wrong. The rest are
percentile intervals over resamples of the rows (Efron & Tibshirani 1993, chapter 13). A resample is
drawn as counts over what can be told apart (cells of a confusion matrix, pairs of right and wrong),
which is the same distribution as drawing rows, and fast for any number of rows. Where nothing went
wrong all resamples are alike, and the interval has no width.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
# Counts held at once, 8 bytes each: resamples of many outcomes are drawn in blocks.
BLOCK_COUNTS = 4_000_000
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
    generator, block = np.random.default_rng(seed), max(1, BLOCK_COUNTS // len(counts))
    values = np.empty(resamples)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = np.zeros((size, len(counts)))
        drawn[:, occurring] = generator.multinomial(total, counts[occurring] / total, size=size)
        values[start : start + size] = statistic(drawn)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value=float(statistic(counts[None].astype(float))[0]), low=float(low), high=float(high))


def accuracy_interval(correct: NDArray[np.bool_], confidence: float = 0.95) -> Interval:
    """Return the score interval of the share of ``correct`` rows, shape (rows,); all NaN for no rows.

    Wilson (1927), as recommended by Brown, Cai & DasGupta (2001).
    """
    n = len(correct)
    if n == 0:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    share, z = float(correct.mean()), NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    return Interval(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


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
