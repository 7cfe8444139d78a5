import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support
from undercut.f1 import f1_difference, f1_interval, per_label


def answers(rows: int = 400, labels: int = 5, noise: float = 0.15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = (generator.random((rows, labels)) < 0.25).astype(np.int64)
    return truth, truth ^ (generator.random(truth.shape) < noise)


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_the_figure_is_scikit_learns_and_lies_within_its_interval(average: str) -> None:
    truth, predicted = answers()
    found = f1_interval(f"{average}_f1", truth, predicted)
    assert found.value == pytest.approx(f1_score(truth, predicted, average=average))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx({"micro": 0.068, "macro": 0.068}[average], abs=0.01)


def test_macro_leaves_out_labels_that_do_not_occur() -> None:
    truth, predicted = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[1, 0, 0], [0, 0, 0]])
    assert f1_interval("macro_f1", truth, predicted).value == pytest.approx(0.5)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 200 samples of 150 rows from 20,000, about 95 % of the intervals hold the figure of all."""
    truth, predicted = answers(20_000)
    whole = f1_score(truth, predicted, average="micro")
    generator, held = np.random.default_rng(1), 0
    for _ in range(200):
        rows = generator.choice(len(truth), 150)
        found = f1_interval("micro_f1", truth[rows], predicted[rows])
        held += found.low <= whole <= found.high
    assert 180 <= held <= 199


def test_the_difference_is_paired() -> None:
    truth, first = answers()
    second = first.copy()
    second[:10] ^= 1
    for name in ("micro_f1", "macro_f1"):
        found = f1_difference(name, truth, first, second)
        apart = f1_interval(name, truth, first).value - f1_interval(name, truth, second).value
        assert found.value == pytest.approx(apart)
        assert found.low > 0, name
        assert found.high - found.low < 0.06, name
        same = f1_difference(name, truth, first, first)
        assert (same.value, same.low, same.high) == (0, 0, 0)


def test_no_rows_have_no_figure_and_no_labels_none_either() -> None:
    empty = np.zeros((0, 3), np.int64)
    assert np.isnan(f1_interval("micro_f1", empty, empty).value)
    nothing = np.zeros((4, 3), np.int64)
    assert f1_interval("micro_f1", nothing, nothing).value == 0


def test_figures_of_each_label() -> None:
    truth, predicted = answers()
    found = per_label(truth, predicted, list("vwxyz"))
    expected = precision_recall_fscore_support(truth, predicted)
    for i, name in enumerate(("precision", "recall", "f1", "n")):
        assert [row[name] for row in found] == pytest.approx(expected[i].tolist()), name
    assert all(row["f1_low"] < row["f1"] < row["f1_high"] for row in found)
