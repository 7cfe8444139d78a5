"""Samples: what is measured of rows, and that no text is in it."""

from pathlib import Path

import numpy as np
from undercut import artifacts
from undercut.predictors import load_predictor
from undercut.samples import aligned, chosen_rows, features, key, measure, word_keys

NONE = np.zeros(0, np.int64)


def test_known_and_unknown_words() -> None:
    assert word_keys("Où est MON colis") == word_keys("ou est mon colis")
    assert key("colis") in word_keys("Mon colis?")
    assert len(word_keys("退款还没有到")) == 5, "pairs of characters where words are written without spaces"


def test_features_are_of_length_one_and_see_capitals() -> None:
    found = features(["where is my order", "WHERE IS MY ORDER", "a"])
    assert found.shape == (3, 256)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    assert float(found[0] @ found[1]) < 0.5


def test_a_sample_of_rows_with_labels(linear_model: Path, small_data: Path) -> None:
    card = artifacts.load(small_data, artifacts.DATASET)
    texts, truth = artifacts.texts_and_labels(small_data, "test")
    words = frozenset(word for text in artifacts.texts_and_labels(small_data, "train")[0] for word in word_keys(text))
    predictor = load_predictor(linear_model)
    sample = measure(predictor, [*texts[:40], "cancel my zebra"], words, np.append(truth[:40], 0), card["labels"])
    assert sample.rows == 41
    assert (sample.answers.sum(axis=1) == 1).all()
    right = predictor.probabilities(texts[:40]).argmax(axis=1) == truth[:40]
    np.testing.assert_array_equal(sample.correct[:40].astype(bool), right)
    assert sample.unknown[:40].max() == 0
    np.testing.assert_allclose(sample.unknown[40], 1 / 3)
    assert sample.take(np.array([0, 40])).rows == 2


def test_answers_are_right_by_name_not_by_number(linear_model: Path) -> None:
    predictor = load_predictor(linear_model)
    texts = ["cancel my order", "where is my refund"]
    sample = measure(predictor, texts, frozenset(), np.array([2, 1]), ["a new label", "refund", "cancel"])
    assert sample.correct.tolist() == [1, 1]
    unlabelled = measure(predictor, texts, frozenset(), NONE, [])
    assert not unlabelled.labelled
    assert unlabelled.rows == 2


def test_columns_are_put_in_order() -> None:
    matrix = np.array([[1, 0], [0, 1]], np.uint8)
    assert aligned(matrix, ["b", "a"], ["a", "b", "c"]).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_rows_are_taken_over_splits(small_data: Path) -> None:
    counts = artifacts.load(small_data, artifacts.DATASET)["rows"]
    rows = np.array([0, counts["train"], counts["train"] + counts["validation"] + 2])
    texts, labels = chosen_rows(small_data, artifacts.SPLITS, rows, 3)
    expected = [artifacts.texts_and_labels(small_data, s) for s in artifacts.SPLITS]
    assert texts == [expected[0][0][0], expected[1][0][0], expected[2][0][2]]
    assert labels.tolist() == [expected[0][1][0], expected[1][1][0], expected[2][1][2]]
