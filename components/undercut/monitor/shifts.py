"""Two-sample tests, each seeded and valid for any number of rows: are these rows of the same kind as those?

Permutation tests (Good 2005) shuffle which sample a row belongs to: if both are of one kind, the figure
seen is one among the shuffled. The p-value counts it in, (1 + as large) / (1 + shuffles), so that it never
errs to the low side (Phipson & Smyth 2010).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
KERNEL_ROWS = 500  # of each sample: the kernel is quadratic in them
BLOCK_WEIGHTS = 4_000_000  # held at once, 4 bytes each: all shuffles that the settings allow would be gigabytes


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far two samples are apart, and how often chance alone parts them as far."""

    statistic: float
    p_value: float


def share_shift(first: NDArray[np.uint8], second: NDArray[np.uint8], permutations: int, seed: int) -> Shift:
    """Compare how often each label occurs: the chi-squared statistic of homogeneity, by permutation.

    Permutation keeps it exact for rare labels, and for rows of several labels, which are not independent counts.
    On true labels it tests for label shift, on a model's answers for the shift that Lipton et al. (2018,
    "Detecting and correcting for label shift with black box predictors") call black box.

    Args:
        first: zeros and ones, shape (rows, labels).
        second: the same of the other sample.
        permutations: how many.
        seed: of the permutations.

    Returns:
        The statistic: the largest difference of a label's share.
    """
    both = np.concatenate([first, second]).astype(np.float32)
    share = both.mean(axis=0)
    scaled = both[:, share > 0] / np.sqrt(share[share > 0])
    differences = _differences(scaled, len(first), permutations, seed)
    p_value = _p_value((differences**2).sum(axis=1))
    largest = float(np.abs(first.mean(axis=0) - second.mean(axis=0)).max())
    return Shift(statistic=largest, p_value=p_value)


def mean_rise(first: Matrix, second: Matrix, permutations: int, seed: int) -> Shift:
    """Test whether the mean of a figure, shape (rows,), is higher in the second sample, by permutation.

    Returns:
        The statistic: by how much it is higher.
    """
    both = np.concatenate([first, second]).astype(np.float32)[:, None]
    differences = _differences(both, len(first), permutations, seed)[:, 0]
    return Shift(statistic=float(-differences[0]), p_value=_p_value(-differences))


def distribution_shift(first: Matrix, second: Matrix) -> Shift:
    """Compare the distribution of a figure, shape (rows,): the two-sample Kolmogorov-Smirnov test.

    On a model's confidence this is what Rabanser et al. (2019, "Failing loudly") found to be the most
    dependable of the detectors that they compared.

    Returns:
        The statistic: the largest distance between the two distribution functions.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(first, second)
    return Shift(statistic=float(found.statistic), p_value=float(found.pvalue))


def kernel_shift(first: Matrix, second: Matrix, permutations: int, seed: int) -> Shift:
    """Compare feature vectors, shape (rows, features): maximum mean discrepancy (Gretton et al. 2012), by permutation.

    The kernel is Gaussian, its width the median distance. At most 500 rows of each sample are looked at.

    Returns:
        The statistic: the squared discrepancy (biased estimate).
    """
    generator = np.random.default_rng([seed, 1])
    first, second = (_some(sample, generator) for sample in (first, second))
    both = np.concatenate([first, second]).astype(np.float32)
    square = (both**2).sum(axis=1)
    distances = np.maximum(square[:, None] + square[None] - 2 * both @ both.T, 0)
    kernel = np.exp(-distances / max(float(np.median(distances)), 1e-9))
    blocks = _weights(len(first), len(both), permutations, generator)
    values = np.concatenate([np.einsum("pn,pn->p", weights @ kernel, weights) for weights in blocks])
    return Shift(statistic=float(values[0]), p_value=_p_value(values))


def accuracy_fall(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Shift:
    """Test whether fewer rows are right than before: Fisher's exact test, one-sided (Fisher 1935).

    Args:
        before: whether each row was right when the model was measured, shape (rows,).
        now: the same of today's rows.

    Returns:
        The statistic: by how much accuracy fell.
    """
    from scipy.stats import fisher_exact

    table = [[int(before.sum()), int((1 - before).sum())], [int(now.sum()), int((1 - now).sum())]]
    found = fisher_exact(table, alternative="greater")
    return Shift(statistic=float(before.mean() - now.mean()), p_value=float(found.pvalue))


def holm(p_values: list[float], significance: float) -> list[float]:
    """Return the threshold that each p-value must reach (Holm 1979), in the order given.

    The chance of one false alarm or more among all the tests is ``significance`` at most, however they depend on
    each other. A test alarms where its p-value and all smaller ones reach their thresholds.
    """
    order = np.argsort(p_values, kind="stable")
    thresholds = np.empty(len(p_values))
    thresholds[order] = significance / np.arange(len(p_values), 0, -1)
    return [float(threshold) for threshold in thresholds]


def _some(sample: Matrix, generator: np.random.Generator) -> Matrix:
    return sample[generator.permutation(len(sample))[:KERNEL_ROWS]]


def _weights(first: int, rows: int, permutations: int, generator: np.random.Generator) -> Iterator[Matrix]:
    """Yield weights that take the difference of means, shape (some, rows): as it is, then shuffled, in blocks."""
    weights = np.full(rows, -1 / (rows - first), np.float32)
    weights[:first] = 1 / first
    yield weights[None]
    block = max(1, BLOCK_WEIGHTS // rows)
    for start in range(0, permutations, block):
        yield generator.permuted(np.tile(weights, (min(block, permutations - start), 1)), axis=1)


def _differences(figures: Matrix, first: int, permutations: int, seed: int) -> Matrix:
    """Return the difference of the samples' means, shape (1 + permutations, columns): as it is, then shuffled."""
    blocks = _weights(first, len(figures), permutations, np.random.default_rng([seed, 1]))
    return np.concatenate([np.asarray(weights @ figures, np.float32) for weights in blocks])


def _p_value(values: Matrix) -> float:
    """Return the p-value of the first value among all; what rounding alone parts counts as equal."""
    seen = values[0] - 1e-5 * float(np.abs(values).max())
    return float((values >= seen).mean())
