"""What is made from a multi-label model: every structure, each int8, adapters; the search."""

from pathlib import Path

import pytest
from undercut import artifacts
from undercut.compress.structures import compress
from undercut.errors import ConfigurationError
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.label_sets import predicted
from undercut.predictors import load_predictor
from undercut.quantize.export import QuantizeConfig, quantize
from undercut.tune.search import tune
from undercut.tune.settings import TuneConfig

pytestmark = pytest.mark.slow


def micro_f1(model: Path, data: Path) -> float:
    texts, truth = artifacts.texts_and_labels(data, "test")
    predictor = load_predictor(model)
    answers = predicted(predictor, predictor.probabilities(texts))
    return float(2 * (answers & truth).sum() / (answers.sum() + truth.sum()))


@pytest.fixture(scope="module")
def linear(topic_teacher: Path, topic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear") / "model"
    compress("linear", topic_teacher, topic_data, folder, seed=0)
    return folder


def test_linear_has_a_regression_and_a_threshold_of_its_own(
    linear: Path, topic_teacher: Path, topic_data: Path
) -> None:
    manifest = artifacts.verify(linear, artifacts.MODEL)
    assert manifest["method"] == "n-grams, one logistic regression a label on labels"
    assert manifest["threshold"] != artifacts.load(topic_teacher, artifacts.MODEL)["threshold"]
    assert micro_f1(linear, topic_data) > 0.97


@pytest.mark.parametrize(
    ("structure", "least"),
    [("linear-teacher", 0.97), ("static", 0.9), ("distilled-1", 0.8), ("pruned-50", 0.9), ("finetuned", 0.9)],
)
def test_every_structure_answers_sets_of_labels(
    structure: str, least: float, topic_teacher: Path, topic_data: Path, tmp_path: Path
) -> None:
    compress(structure, topic_teacher, topic_data, tmp_path / "model", seed=0)
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert (manifest["lost"], manifest["task"]) == ("", "multi-label-text-classification")
    found = micro_f1(tmp_path / "model", topic_data)
    print(structure, found, micro_f1(topic_teacher, topic_data))
    assert found > least


@pytest.mark.parametrize("precision", ["fp32", "int8-static", "int8-mixed"])
def test_other_precisions(precision: str, topic_teacher: Path, topic_data: Path, tmp_path: Path) -> None:
    quantize(topic_teacher, topic_data, tmp_path / "model", QuantizeConfig(precision=precision, mixed_agreement=0.97))
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert manifest["lost"] == ""
    assert manifest["metrics"]["conversion"]["agreement"] >= 0.95


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_adapters_are_trained_and_loaded(method: str, topic_base: Path, topic_data: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(
        base_model=str(topic_base), method=method, epochs=2, batch_tokens=512, refit=False, class_weights="balanced"
    )
    manifest = finetune(topic_data, tmp_path / "model", config, tmp_path / "adapter")
    assert 0 < manifest["threshold"] < 1
    assert load_predictor(tmp_path / "adapter").probabilities(["the parcel has not come"]).shape == (1, 5)
    assert artifacts.verify(tmp_path / "model", artifacts.MODEL)["threshold"] == manifest["threshold"]


def test_an_out_of_scope_label_is_refused(topic_base: Path, topic_data: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(base_model=str(topic_base), out_of_scope_label="praise")
    with pytest.raises(ConfigurationError, match="out_of_scope_label: got 'praise'; allowed: empty on data of several"):
        finetune(topic_data, tmp_path / "model", config)


def test_hyperparameters_are_searched(topic_base: Path, topic_data: Path, tmp_path: Path) -> None:
    config = TuneConfig(
        base_model=str(topic_base), trials=2, epochs=2, epochs_high=3, train_rows=120, pruner="none",
        train_embeddings=True, learning_rate=3e-3, learning_rate_high=1e-2,
    )  # fmt: skip
    tune(topic_data, tmp_path / "tuning", config)
    found = artifacts.verify(tmp_path / "tuning", artifacts.TUNING)
    assert len(found["trials"]) == 2
    assert all(trial["state"] == "complete" for trial in found["trials"])
    assert found["gain"]["n"] == 64
