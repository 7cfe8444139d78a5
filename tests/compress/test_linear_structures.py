import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from undercut import artifacts
from undercut.compress.linear import LinearConfig, fit_logistic
from undercut.compress.structures import compress
from undercut.errors import ConfigurationError
from undercut.predictors import load_predictor, softmax


def test_the_fit_is_the_optimum() -> None:
    """Against scikit-learn's multinomial logistic regression with the same penalty."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 5)).astype(np.float32)
    labels = (features[:, 0] + 0.5 * generator.normal(size=200) > 0).astype(int) + (features[:, 1] > 1)
    targets = np.eye(3, dtype=np.float32)[labels]
    penalty = 1e-2
    config = LinearConfig(l2_penalty=penalty, maximum_iterations=500)
    weights, bias = fit_logistic(csr_matrix(features), targets, config)
    reference = LogisticRegression(C=1 / (penalty * 200), max_iter=1000, tol=1e-8).fit(features, labels)
    ours = softmax(features @ weights + bias)
    assert np.abs(ours - reference.predict_proba(features)).max() < 2e-3


@pytest.mark.parametrize("structure", ["linear", "linear-teacher"])
def test_linear_candidates(small_data: Path, tiny_teacher: Path, tmp_path: Path, structure: str) -> None:
    compress(structure, tiny_teacher, small_data, tmp_path / "model", seed=0)
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert manifest["structure"] == structure
    assert manifest["format"] == "linear"
    assert (manifest["base_model"] is None) == (structure == "linear")
    assert sorted(manifest["files"]) == ["vocabulary.json", "weights.safetensors"]
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    probabilities = load_predictor(tmp_path / "model").probabilities(texts)
    assert (probabilities.argmax(1) == labels).mean() > 0.97


def test_the_teacher_labels_unlabelled_texts(data_with_unlabelled: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    compress("linear-teacher", tiny_teacher, data_with_unlabelled, tmp_path / "taught", seed=0)
    compress("linear", tiny_teacher, data_with_unlabelled, tmp_path / "labelled", seed=0)
    known = [json.loads((tmp_path / n / "vocabulary.json").read_text()) for n in ("taught", "labelled")]
    assert ["well" in content["word"]["ngrams"] for content in known] == [True, False]
    texts, labels = artifacts.texts_and_labels(data_with_unlabelled, "test")
    assert (load_predictor(tmp_path / "taught").probabilities(texts).argmax(1) == labels).mean() > 0.97


def test_the_fit_is_the_same_each_time(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    for name in "ab":
        compress("linear", tiny_teacher, small_data, tmp_path / name, seed=0)
    a, b = (artifacts.load(tmp_path / name, artifacts.MODEL)["digest"] for name in "ab")
    assert a == b


def test_finetuned_hands_the_teacher_on(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    compress("finetuned", tiny_teacher, small_data, tmp_path / "model", seed=0)
    before, after = (artifacts.verify(p, artifacts.MODEL) for p in (tiny_teacher, tmp_path / "model"))
    assert before["digest"] == after["digest"]


def test_an_unknown_structure_is_refused(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one of distilled, finetuned, linear"):
        compress("quantum", tiny_teacher, small_data, tmp_path / "model", seed=0)
    with pytest.raises(ConfigurationError, match="linear or linear-teacher"):
        compress("linear-svm", tiny_teacher, small_data, tmp_path / "model", seed=0)
