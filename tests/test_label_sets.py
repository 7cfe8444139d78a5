import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score
from undercut.label_sets import (
    MultiLabelPredictor,
    choose_threshold,
    index_lists,
    multi_hot,
    names,
    predicted,
    same,
    sigmoid,
    strata,
)


class Scores:
    """A model that answers each text, a list of numbers, with these numbers."""

    labels = ("a", "b", "c")

    def logits(self, texts: list[str]) -> np.ndarray:
        return np.array([[float(n) for n in text.split()] for text in texts], np.float32)


def test_lists_and_matrices_are_each_others_inverse() -> None:
    lists = pa.chunked_array([[[0, 2], []], [[1]]], pa.list_(pa.int32()))
    matrix = multi_hot(lists, 3)
    assert matrix.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert index_lists(matrix).to_pylist() == lists.to_pylist()
    assert multi_hot(lists.slice(1), 3).tolist() == [[0, 0, 0], [0, 1, 0]]
    assert index_lists(np.zeros((2, 3))).to_pylist() == [[], []]


def test_sigmoid_neither_overflows_nor_warns() -> None:
    assert sigmoid(np.array([-1000.0, 0.0, 2.0, 1000.0])) == pytest.approx([0, 0.5, 1 / (1 + np.exp(-2)), 1], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = (generator.random((60, 4)) < 0.3).astype(np.int64)
    probabilities = np.round(sigmoid(generator.normal(size=(60, 4)) + 2 * truth - 1), 2)
    found = f1_score(truth, probabilities >= choose_threshold(probabilities, truth), average="micro")
    best = max(f1_score(truth, probabilities >= t, average="micro") for t in np.unique(probabilities))
    assert found == pytest.approx(best)


def test_the_threshold_lies_in_the_middle_of_the_gap() -> None:
    probabilities = np.array([[0.9, 0.2], [0.7, 0.1]], np.float32)
    assert choose_threshold(probabilities, np.array([[1, 0], [1, 0]])) == pytest.approx(0.45)
    assert choose_threshold(probabilities, np.array([[1, 1], [1, 1]])) == pytest.approx(0.05)
    assert choose_threshold(probabilities, np.zeros((2, 2), np.int64)) == 0.5


def test_answers_are_the_labels_that_reach_the_threshold_the_surest_first() -> None:
    predictor = MultiLabelPredictor(Scores(), threshold=0.5)
    probabilities = predictor.probabilities(["1 -1 2", "-1 -1 -1"])
    assert predictor.labels == ("a", "b", "c")
    assert predicted(predictor, probabilities).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert names(predictor, probabilities) == [["c", "a"], []]
    assert same(predicted(predictor, probabilities), np.array([[1, 0, 1], [0, 1, 0]])).tolist() == [True, False]
    assert names(Scores(), np.array([[0.2, 0.7, 0.1]], np.float32)) == ["b"]


def test_rows_of_the_same_labels_are_one_stratum() -> None:
    found = strata(np.array([[1, 0], [0, 0], [1, 0], [1, 1]]))
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
    assert strata(np.array([4, 2])).tolist() == [4, 2]
