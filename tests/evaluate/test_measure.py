import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, calibration_bins, evaluate, figures, slices
from undercut.evaluate.mistakes import mistakes
from undercut.predictors import load_predictor, softmax

CONFIG = EvaluateConfig()
LABELS = ["a", "b", "c", "never"]


def answers(rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and truth of an overconfident model; the label ``never`` does not occur."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, rows)
    logits = generator.normal(size=(rows, 4)) + 1.5 * np.eye(4)[truth]
    logits[:, 3] -= 9
    return softmax(2.5 * logits), truth


def test_figures_are_those_of_scikit_learn() -> None:
    probabilities, truth = answers()
    predicted = probabilities.argmax(1)
    found = figures(probabilities, truth, LABELS, CONFIG)
    metrics = {name: value["value"] for name, value in found["metrics"].items()}
    assert found["n"] == 500
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    doubles = probabilities.astype(np.float64)
    expected = log_loss(truth, doubles / doubles.sum(1, keepdims=True), labels=range(4))
    assert metrics["log_loss"] == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(found["confusion"], confusion_matrix(truth, predicted, labels=range(4)))
    expected = precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=0)
    for i, name in enumerate(("precision", "recall", "f1", "n")):
        assert [row[name] for row in found["per_class"]] == pytest.approx(expected[i].tolist()), name
    assert [row["label"] for row in found["per_class"]] == LABELS
    for value in found["metrics"].values():
        assert value["low"] < value["value"] < value["high"]
    assert metrics["accuracy"] == pytest.approx(0.766)


def test_calibration_error_is_the_definition() -> None:
    probabilities, truth = answers()
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    expected = 0.0
    for low in np.arange(10) / 10:
        rows = (confidence >= low) & (confidence < low + 0.1)
        if rows.any():
            expected += rows.mean() * abs(correct[rows].mean() - confidence[rows].mean())
    found = figures(probabilities, truth, LABELS, CONFIG)
    assert found["metrics"]["calibration_error"]["value"] == pytest.approx(expected, abs=1e-6)
    assert sum(b["n"] for b in found["calibration"]) == 500


def test_a_certain_answer_falls_into_the_last_bin_and_an_empty_bin_has_no_figures() -> None:
    bins = calibration_bins(np.array([[1.0, 0.0], [0.55, 0.45]], np.float32), np.array([0, 1]))
    assert [b["n"] for b in bins] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert bins[9] == {"low": 0.9, "high": 1.0, "confidence": 1.0, "accuracy": 1.0, "n": 1}
    assert bins[5]["accuracy"] == 0.0
    assert bins[0]["confidence"] is None


def test_slices_by_length_and_by_column() -> None:
    lengths = [3, 3, 3, 5, 5, 5, 9, 9, 9, 9]
    table = pa.table(
        {
            "row": range(10),
            "text": ["x" * n for n in lengths],
            "label": [0] * 10,
            "channel": ["mail"] * 4 + ["chat"] * 5 + [None],
            "constant": ["one"] * 10,
            "id": [str(i) for i in range(10)],
        }
    )
    many = pa.table({**{n: table[n] for n in table.column_names}, "id": [str(i) for i in range(10)]})
    correct = np.array([True, False, True, True, True, True, True, True, True, False])
    found = {(s["column"], s["value"]): (s["n"], s["accuracy"]["value"]) for s in slices(many, correct, CONFIG)}
    assert found[("text length", "up to 5 characters")] == (6, pytest.approx(5 / 6))
    assert found[("channel", "mail")] == (4, 0.75)
    assert found[("channel", "chat")] == (5, 1.0)
    assert found[("channel", "(none)")] == (1, 0.0)
    assert not any(column == "constant" for column, _ in found)
    assert sum(n for (column, _), (n, _) in found.items() if column == "text length") == 10


def test_a_column_of_many_values_is_no_slice() -> None:
    table = pa.table({"row": range(13), "text": ["x"] * 13, "label": [0] * 13, "id": [str(i) for i in range(13)]})
    found = slices(table, np.ones(13, bool), CONFIG)
    assert [(s["column"], s["value"], s["n"]) for s in found] == [("text length", "up to 1 characters", 13)]
    assert found[0]["accuracy"]["low"] == pytest.approx(0.7719, abs=1e-4)


def test_mistakes_are_the_surest_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.99, 0.01], [0.6, 0.4]], np.float32)
    table = pa.table({"row": [10, 11, 12, 13, 14], "text": list("abcde"), "label": [1, 1, 1, 0, 1]})
    found = mistakes(table, probabilities, np.array([1, 1, 1, 0, 1]), ["no", "yes"])
    assert [(m["row"], m["text"]) for m in found] == [(10, "a"), (11, "b"), (14, "e")]
    assert found[0] == {"row": 10, "text": "a", "label": "yes", "predicted": "no", "probability": pytest.approx(0.9)}
    many = np.tile(probabilities[:1], (60, 1))
    table = pa.table({"row": range(60), "text": ["x"] * 60, "label": [1] * 60})
    assert len(mistakes(table, many, np.ones(60, np.int64), ["no", "yes"])) == 25


def test_an_evaluation_of_a_real_model(
    small_data: Path, linear_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    evaluate(linear_model, small_data, tmp_path / "evaluation", CONFIG)
    card = artifacts.verify(tmp_path / "evaluation", artifacts.EVALUATION)
    texts, truth = artifacts.texts_and_labels(small_data, "test")
    probabilities = load_predictor(linear_model).probabilities(texts)
    table = pq.read_table(tmp_path / "evaluation" / "predictions.parquet")
    assert table["row"].to_pylist() == artifacts.read_split(small_data, "test")["row"].to_pylist()
    assert table["label"].to_pylist() == truth.tolist()
    assert table["predicted"].to_pylist() == probabilities.argmax(1).tolist()
    assert np.allclose(table["label_probability"], probabilities[np.arange(116), truth], atol=1e-6)
    assert card["candidate"] == "linear/as-is"
    assert card["model"] == artifacts.load(linear_model, artifacts.MODEL)["digest"]
    assert card["n"] == 116
    assert card["metrics"]["accuracy"]["value"] == pytest.approx((probabilities.argmax(1) == truth).mean())
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {e["name"] for e in events if e["type"] == "metric"} == set(card["metrics"])
    progress = [e["done"] for e in events if e["type"] == "progress" and e["message"] == "test rows"]
    assert progress == [32, 64, 96, 116]


def test_the_batch_size_does_not_change_the_answers(small_data: Path, linear_model: Path, tmp_path: Path) -> None:
    for size in (1, 50):
        evaluate(linear_model, small_data, tmp_path / str(size), EvaluateConfig(batch_size=size))
    one, many = (artifacts.load(tmp_path / n, artifacts.EVALUATION) for n in ("1", "50"))
    assert one["digest"] == many["digest"]


def test_a_lost_candidate_has_an_evaluation_without_figures(
    small_data: Path, lost_model: Callable[..., Path], tmp_path: Path
) -> None:
    evaluate(lost_model(tmp_path / "model"), small_data, tmp_path / "evaluation", CONFIG)
    card = artifacts.verify(tmp_path / "evaluation", artifacts.EVALUATION)
    assert (card["lost"], card["n"], card["metrics"]) == ("it answers differently", 0, {})
    assert card["files"] == {}


def test_a_tampered_model_is_not_evaluated(small_data: Path, make_linear_model: Callable, tmp_path: Path) -> None:
    model = make_linear_model(tmp_path / "model", small_data)
    vocabulary = model / "vocabulary.json"
    vocabulary.write_text(vocabulary.read_text().replace("refund", "refuse"))
    with pytest.raises(ConfigurationError, match=r"model/vocabulary\.json: got 'its SHA-256 is not the recorded one'"):
        evaluate(model, small_data, tmp_path / "evaluation", CONFIG)
    assert not (tmp_path / "evaluation" / artifacts.EVALUATION).exists()


@pytest.mark.parametrize(("setting", "value"), [("batch_size", 0), ("confidence", 1.0), ("confidence", 0.5)])
def test_a_wrong_setting_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: got"):
        EvaluateConfig(**{setting: value})
