"""Two-sample tests: as many false alarms as they promise, and planted shifts found."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from undercut.monitor import shifts
from undercut.monitor.shifts import Shift

SEEDS = 300


def one_hot(generator: np.random.Generator, rows: int, shares: list[float]) -> NDArray[np.uint8]:
    return np.eye(len(shares), dtype=np.uint8)[generator.choice(len(shares), rows, p=shares)]


def labels(generator: np.random.Generator, shift: float) -> Shift:
    rare = [0.5 - shift, 0.3, 0.15, 0.03 + shift, 0.02]
    first, second = one_hot(generator, 200, [0.5, 0.3, 0.15, 0.03, 0.02]), one_hot(generator, 80, rare)
    return shifts.share_shift(first, second, 199, 0)


def means(generator: np.random.Generator, shift: float) -> Shift:
    skewed = (generator.exponential(size=n).astype(np.float32) for n in (200, 80))
    first, second = skewed
    return shifts.mean_rise(first, second + np.float32(2 * shift), 199, 0)


def confidences(generator: np.random.Generator, shift: float) -> Shift:
    first, second = generator.beta(5, 2, 200), generator.beta(5 - 12 * shift, 2, 80)
    return shifts.distribution_shift(first.astype(np.float32), second.astype(np.float32))


def vectors(generator: np.random.Generator, shift: float) -> Shift:
    first, second = (generator.normal(size=(n, 16)).astype(np.float32) for n in (120, 80))
    return shifts.kernel_shift(first, second + np.float32(1.5 * shift), 199, 0)


def accuracies(generator: np.random.Generator, shift: float) -> Shift:
    first, second = generator.random(200) < 0.85, generator.random(80) < 0.85 - shift
    return shifts.accuracy_fall(first.astype(np.uint8), second.astype(np.uint8))


TESTS = [labels, means, confidences, vectors, accuracies]


@pytest.mark.parametrize("test", TESTS, ids=lambda t: t.__name__)
def test_the_rate_of_false_alarms_is_the_significance(test: Callable[[np.random.Generator, float], Shift]) -> None:
    """Each of 300 pairs of samples of one kind; 5 % alarms at 0.05, within four standard errors."""
    p_values = np.array([test(np.random.default_rng(seed), 0.0).p_value for seed in range(SEEDS)])
    assert p_values.min() > 0
    assert (p_values <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / SEEDS)


@pytest.mark.parametrize("test", TESTS, ids=lambda t: t.__name__)
def test_a_shift_is_seen(test: Callable[[np.random.Generator, float], Shift]) -> None:
    seen = [test(np.random.default_rng(seed), 0.25) for seed in range(20)]
    assert (
        sum(shift.p_value <= 0.01 for shift in seen) >= 16
    )  # a sum in another order, on another number of threads, moves a p-value across the line
    assert all(shift.statistic > 0 for shift in seen)


def test_the_same_seed_gives_the_same_p_value() -> None:
    assert labels(np.random.default_rng(3), 0.02) == labels(np.random.default_rng(3), 0.02)


@pytest.mark.parametrize("test", [labels, means, vectors], ids=lambda t: t.__name__)
def test_the_p_value_is_the_same_in_blocks_of_shuffles(
    test: Callable[[np.random.Generator, float], Shift], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = test(np.random.default_rng(3), 0.05)
    monkeypatch.setattr(shifts, "BLOCK_WEIGHTS", 7 * 280 + 1)
    assert test(np.random.default_rng(3), 0.05).p_value == at_once.p_value


def test_equal_samples_have_a_p_value_of_one() -> None:
    rows = one_hot(np.random.default_rng(0), 50, [0.5, 0.5])
    assert shifts.share_shift(rows, rows, 99, 0) == Shift(statistic=0.0, p_value=1.0)


def test_thresholds_step_down() -> None:
    assert shifts.holm([0.01, 0.5, 0.001, 0.04], 0.04) == pytest.approx([0.04 / 3, 0.04, 0.01, 0.02])
