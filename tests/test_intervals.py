import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import confusion_matrix, f1_score
from undercut import intervals
from undercut.intervals import accuracy_interval, bootstrap, macro_f1, macro_f1_interval, paired_difference


def right(hits: int, rows: int) -> np.ndarray:
    return np.arange(rows) < hits


@pytest.mark.parametrize("rows", [1, 7, 116, 3080])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.93, 1.0])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_accuracy_has_the_score_interval_of_scipy(rows: int, share: float, confidence: float) -> None:
    hits = round(share * rows)
    found = accuracy_interval(right(hits, rows), confidence)
    expected = binomtest(hits, rows).proportion_ci(confidence, method="wilson")
    assert found.value == pytest.approx(hits / rows)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_few_rows_all_right_prove_little() -> None:
    found = accuracy_interval(right(20, 20))
    assert found.as_dict() == pytest.approx({"value": 1.0, "low": 0.8389, "high": 1.0}, abs=1e-4)
    assert accuracy_interval(right(3000, 3000)).low == pytest.approx(0.9987, abs=1e-4)


@pytest.mark.parametrize(("rows", "share"), [(100, 0.9), (100, 0.98), (300, 0.95), (1000, 0.9)])
def test_the_lower_end_lies_above_the_truth_as_rarely_as_promised(rows: int, share: float) -> None:
    """Summed over every possible outcome; at 95 % two-sided the lower end may be wrong 2.5 % of the time."""
    lows = np.array([accuracy_interval(right(hits, rows)).low for hits in range(rows + 1)])
    wrong = binom.pmf(np.arange(rows + 1), rows, share)[lows > share].sum()
    assert wrong < 0.03


def test_the_bootstrap_of_a_share_is_the_binomial() -> None:
    found = bootstrap(np.array([270, 30]), lambda c: c[:, 0] / c.sum(axis=1), 0.95, seed=0, resamples=20_000)
    expected = binom.ppf([0.025, 0.975], 300, 0.9) / 300
    assert found.value == 0.9
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=1.01 / 300)


def confusion(seed: int, labels: int = 4, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.choice(labels, rows, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(generator.random(rows) < 0.8, truth, generator.integers(0, labels, rows))
    return truth, predicted, confusion_matrix(truth, predicted, labels=range(labels))


def test_macro_f1_is_that_of_scikit_learn() -> None:
    truth, predicted, counts = confusion(0)
    expected = f1_score(truth, predicted, average="macro")
    assert macro_f1(counts[None].astype(float))[0] == pytest.approx(expected)
    assert macro_f1_interval(counts).value == pytest.approx(expected)


def test_labels_that_do_not_occur_do_not_count() -> None:
    truth, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    counts = confusion_matrix(truth, predicted, labels=range(5))
    assert macro_f1(counts[None].astype(float))[0] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_resampling_cells_is_resampling_rows() -> None:
    truth, predicted, counts = confusion(1)
    found = macro_f1_interval(counts, 0.9, seed=0)
    generator = np.random.default_rng(5)
    cells, drawn = truth * 4 + predicted, np.empty((2000, 4, 4))
    for resample in drawn:
        rows = generator.integers(0, len(truth), len(truth))
        resample[:] = np.bincount(cells[rows], minlength=16).reshape(4, 4)
    expected = np.quantile(macro_f1(drawn), [0.05, 0.95]).tolist()
    assert [found.low, found.high] == pytest.approx(expected, abs=0.005)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    """Against the normal approximation for paired shares (as in McNemar's test)."""
    first, second = right(930, 1000), np.concatenate([right(900, 910), right(10, 90)])
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    found = paired_difference(first, second)
    difference = (only_first - only_second) / 1000
    half = 1.96 * np.sqrt(only_first + only_second - (only_first - only_second) ** 2 / 1000) / 1000
    assert found.value == pytest.approx(difference)
    assert [found.low, found.high] == pytest.approx([difference - half, difference + half], abs=0.0015)
    one = accuracy_interval(first)
    assert found.high - found.low < 0.7 * (one.high - one.low)


def test_no_rows_have_no_figure() -> None:
    none = np.zeros(0, dtype=bool)
    for found in (accuracy_interval(none), paired_difference(none, none), macro_f1_interval(np.zeros((3, 3), int))):
        assert np.isnan(list(found.as_dict().values())).all()


def test_many_outcomes_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same figures to the bit, in a fraction of the memory."""
    counts, values = np.ones(5000, dtype=np.int64), np.random.default_rng(0).integers(0, 2, 5000)
    found = []
    for block in (10**9, 100_000):
        monkeypatch.setattr(intervals, "BLOCK_COUNTS", block)
        tracemalloc.start()
        found.append(
            (bootstrap(counts, lambda c: c @ values / 5000, resamples=400), tracemalloc.get_traced_memory()[1])
        )
        tracemalloc.stop()
    (whole, much), (blocks, little) = found
    assert whole == blocks
    assert much > 30e6
    assert little < 5e6
