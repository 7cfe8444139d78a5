"""Messages of several topics or none: from a CSV file to a quantized model and its figures."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.label_sets import MultiLabelPredictor, multi_hot
from undercut.predictors import load_predictor
from undercut.quantize.export import QuantizeConfig, quantize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def int8(topic_teacher: Path, topic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "model"
    quantize(topic_teacher, topic_data, folder, QuantizeConfig(precision="int8"))
    return folder


def test_the_dataset_has_lists_of_labels(topic_data: Path, topics: list[tuple[str, list[str]]]) -> None:
    card = artifacts.verify(topic_data, artifacts.DATASET)
    assert card["task"] == "multi-label-text-classification"
    assert card["labels"] == ["damage", "delivery", "login", "praise", "refund"]
    assert card["rows"] == {"train": 447, "validation": 64, "test": 129}
    assert card["label_counts"]["test"] == {"damage": 40, "delivery": 43, "login": 39, "praise": 39, "refund": 40}
    expected = dict(topics)
    for split in artifacts.SPLITS:
        texts, labels = artifacts.texts_and_labels(topic_data, split)
        assert labels.shape == (len(texts), 5)
        assert (labels.sum(axis=1) == 0).any()
        for text, row in zip(texts, labels, strict=True):
            assert [card["labels"][i] for i in np.flatnonzero(row)] == expected[text]


def test_finetune_learns_and_records_the_threshold(topic_teacher: Path) -> None:
    manifest = artifacts.verify(topic_teacher, artifacts.MODEL)
    curve = manifest["metrics"]["curve"]
    assert manifest["task"] == "multi-label-text-classification"
    assert 0.1 < manifest["threshold"] < 0.6
    assert curve[0]["train_loss"] == pytest.approx(3.36, abs=0.05)
    assert curve[-1]["validation_micro_f1"] > 0.95
    assert '"problem_type": "multi_label_classification"' in (topic_teacher / "config.json").read_text()


def test_int8_is_measured_and_nearly_as_good(int8: Path, topic_teacher: Path, topic_data: Path, tmp_path: Path) -> None:
    conversion = artifacts.verify(int8, artifacts.MODEL)["metrics"]["conversion"]
    assert conversion["agreement"] > 0.9
    cards = {}
    for name, model in {"as-is": topic_teacher, "int8": int8}.items():
        cards[name] = evaluate(model, topic_data, tmp_path / name, EvaluateConfig(robustness_rows=40))
    for card in cards.values():
        metrics = card["metrics"]
        assert set(metrics) == {"micro_f1", "macro_f1", "accuracy", "log_loss", "calibration_error"}
        for name in ("micro_f1", "macro_f1", "accuracy"):
            assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"], name
        print(metrics)
        assert [entry["label"] for entry in card["per_class"]] == card_labels(topic_data)
        assert "confusion" not in card
        assert {s["column"] for s in card["slices"]} == {"text length"}
        assert card["robustness"][0]["n"] == 40


def card_labels(data: Path) -> list[str]:
    labels: list[str] = artifacts.load(data, artifacts.DATASET)["labels"]
    return labels


def test_predictions_are_those_of_the_predictor(int8: Path, topic_data: Path, tmp_path: Path) -> None:
    evaluate(int8, topic_data, tmp_path / "evaluation", EvaluateConfig(robustness_rows=0))
    table = pq.read_table(tmp_path / "evaluation" / "predictions.parquet")
    texts, truth = artifacts.texts_and_labels(topic_data, "test")
    predictor = load_predictor(int8)
    assert isinstance(predictor, MultiLabelPredictor)
    probabilities = np.array(table["probabilities"].to_pylist())
    assert np.allclose(probabilities[:8], [predictor.probabilities([text])[0] for text in texts[:8]], atol=0.02)
    assert np.array_equal(multi_hot(table["label"], 5), truth)
    assert np.array_equal(multi_hot(table["predicted"], 5), probabilities >= predictor.threshold)
    assert probabilities.sum(axis=1).max() > 1.5
