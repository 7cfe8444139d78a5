"""Measure a candidate's quality on the test rows: figures with intervals, slices, calibration, mistakes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.candidates import candidate_name
from undercut.errors import ConfigurationError
from undercut.evaluate import multi_label
from undercut.evaluate.calibration import calibration_bins, calibration_error
from undercut.evaluate.languages import languages
from undercut.evaluate.mistakes import mistakes
from undercut.evaluate.robustness import robustness
from undercut.intervals import accuracy_interval, bootstrap, macro_f1_interval
from undercut.label_sets import is_multi_label, predicted, same
from undercut.predictors import FloatArray, Predictor, load_predictor

SLICE_VALUES = 12
ROBUSTNESS_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings; ``batch_size`` in rows, of the measurement only: it does not change the answers."""

    batch_size: int = 32
    confidence: float = 0.95
    robustness_rows: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError("batch_size", self.batch_size, "a whole number from 1")
        if not 0.5 < self.confidence < 1:
            raise ConfigurationError("confidence", self.confidence, "a number above 0.5 and below 1")
        if not 0 <= self.robustness_rows <= ROBUSTNESS_ROWS:
            raise ConfigurationError("robustness_rows", self.robustness_rows, f"0 (off) to {ROBUSTNESS_ROWS}")


def evaluate(model: Path, data: Path, output: Path, config: EvaluateConfig) -> artifacts.Manifest:
    """Evaluate a servable model folder on the test split and seal an evaluation folder.

    A lost candidate gives an evaluation that says so and holds no figures.
    """
    manifest = artifacts.load(model, artifacts.MODEL)
    card = artifacts.load(data, artifacts.DATASET)
    output.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "candidate": candidate_name(manifest),
        "structure": manifest["structure"],
        "precision": manifest["precision"],
        "model": manifest["digest"],
        "dataset": card["digest"],
        "split": "test",
        "confidence": config.confidence,
        "lost": manifest["lost"],
    }
    if manifest["lost"]:
        return artifacts.seal(output, artifacts.EVALUATION, content | {"n": 0, "metrics": {}})
    table = artifacts.read_split(data, "test")
    texts, truth = artifacts.texts_and_labels(data, "test")
    predictor = load_predictor(model, threads=2)
    probabilities = predict(predictor, texts, config.batch_size)
    answers = predicted(predictor, probabilities)
    correct = same(answers, truth)
    if is_multi_label(truth):
        content |= _label_sets(output, table, truth, answers, probabilities, manifest, config)
    else:
        content |= _one_label(output, table, truth, probabilities, manifest, config)
    content["slices"] = slices(table, correct, config)
    content["languages"] = languages(data, table, correct, config.confidence, config.seed)
    content["robustness"] = robustness(
        predictor, texts, truth, correct, config.robustness_rows, config.confidence, config.seed
    )
    for name, value in content["metrics"].items():
        events.metric(name, value["value"])
    name = "micro_f1" if is_multi_label(truth) else "accuracy"
    metric = content["metrics"][name]
    interval = f"{metric['low']:.3f} to {metric['high']:.3f}"
    events.message(f"{name.replace('_f', '-F')} {metric['value']:.3f} ({interval}) on {content['n']:,} test rows")
    return artifacts.seal(output, artifacts.EVALUATION, content)


def _one_label(
    output: Path,
    table: pa.Table,
    truth: NDArray[np.int64],
    probabilities: FloatArray,
    manifest: artifacts.Manifest,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Write the predictions; return figures and mistakes where a row has one label."""
    write_predictions(output, table["row"], truth, probabilities)
    content = figures(probabilities, truth, manifest["labels"], config)
    if manifest.get("out_of_scope"):
        answers = probabilities.argmax(axis=1)
        index = manifest["labels"].index(manifest["out_of_scope"]["label"])
        content["metrics"] |= out_of_scope_figures(answers == index, truth == index, config)
    return content | {"mistakes": mistakes(table, probabilities, truth, manifest["labels"])}


def _label_sets(
    output: Path,
    table: pa.Table,
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    probabilities: FloatArray,
    manifest: artifacts.Manifest,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Write the predictions; return figures and mistakes where a row may have several labels or none."""
    labels = manifest["labels"]
    multi_label.write_predictions(output, table["row"], truth, answers, probabilities)
    content = multi_label.figures(probabilities, truth, answers, labels, config.confidence, config.seed)
    wrong = multi_label.mistakes(table, probabilities, truth, answers, labels)
    return content | {"threshold": manifest["threshold"], "mistakes": wrong}


def predict(predictor: Predictor, texts: list[str], batch_size: int) -> FloatArray:
    """Return probabilities, shape (texts, labels), asked in batches of like length."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    probabilities = np.zeros((len(texts), len(predictor.labels)), dtype=np.float32)
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        probabilities[rows] = predictor.probabilities([texts[i] for i in rows])
        events.progress(min(start + batch_size, len(texts)), len(texts), "test rows")
    return probabilities


def write_predictions(output: Path, rows: pa.ChunkedArray, truth: NDArray[np.int64], probabilities: FloatArray) -> None:
    """Write ``predictions.parquet``: what each row was taken for, and how surely."""
    index = np.arange(len(truth))
    predicted = probabilities.argmax(axis=1)
    table = {
        "row": rows,
        "label": truth.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "probability": probabilities[index, predicted],
        "label_probability": probabilities[index, truth],
    }
    pq.write_table(pa.table(table), output / "predictions.parquet")


def figures(
    probabilities: FloatArray, truth: NDArray[np.int64], labels: list[str], config: EvaluateConfig
) -> dict[str, Any]:
    """Return metrics with intervals, per-class figures, confusion matrix and calibration bins."""
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    bins = calibration_bins(probabilities, truth)
    losses = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12))
    return {
        "n": len(truth),
        "metrics": {
            "accuracy": accuracy_interval(predicted == truth, config.confidence).as_dict(),
            "macro_f1": macro_f1_interval(confusion, config.confidence, config.seed).as_dict(),
            "calibration_error": calibration_error(probabilities, truth, config.confidence, config.seed),
            "log_loss": mean_interval(losses, config),
        },
        "per_class": per_class(confusion, labels),
        "confusion": confusion.tolist(),
        "calibration": bins,
    }


def out_of_scope_figures(
    rejected: NDArray[np.bool_], outside: NDArray[np.bool_], config: EvaluateConfig
) -> dict[str, dict[str, float]]:
    """Return the share of rows out of scope that were found, and of rows in scope that were not answered."""
    parts = {"out_of_scope_recall": rejected[outside], "false_rejections": rejected[~outside]}
    return {name: accuracy_interval(part, config.confidence).as_dict() for name, part in parts.items() if len(part)}


def mean_interval(values: NDArray[Any], config: EvaluateConfig) -> dict[str, float]:
    """Return the mean of ``values``, shape (rows,), with its bootstrap interval."""
    ones = np.ones(len(values), dtype=np.int64)
    interval = bootstrap(ones, lambda c: c @ values / len(values), config.confidence, config.seed, resamples=500)
    return interval.as_dict()


def per_class(confusion: NDArray[np.int64], labels: list[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and rows of each label."""
    hits, rows, answers = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "label": label,
            "precision": float(hits[i] / max(1, answers[i])),
            "recall": float(hits[i] / max(1, rows[i])),
            "f1": float(2 * hits[i] / max(1, rows[i] + answers[i])),
            "n": int(rows[i]),
        }
        for i, label in enumerate(labels)
    ]


def slices(table: pa.Table, correct: NDArray[np.bool_], config: EvaluateConfig) -> list[dict[str, Any]]:
    """Return accuracy by thirds of text length and by the values of every extra column with few of them."""
    found = []
    lengths = np.array([len(text) for text in table["text"].to_pylist()])
    for name, member in length_slices(lengths).items():
        found.append(("text length", name, member))
    for column in table.column_names:
        if column in ("row", "text", "label"):
            continue
        values = np.array([str(v) if v is not None else "(none)" for v in table[column].to_pylist()])
        distinct = sorted(set(values.tolist()))
        if 1 < len(distinct) <= SLICE_VALUES:
            found += [(column, value, values == value) for value in distinct]
    return [
        {
            "column": column,
            "value": value,
            "n": int(member.sum()),
            "accuracy": accuracy_interval(correct[member], config.confidence).as_dict(),
        }
        for column, value, member in found
        if member.any()
    ]


def length_slices(lengths: NDArray[np.int64]) -> Mapping[str, NDArray[np.bool_]]:
    """Return three slices of about equal size, named by their limits in characters."""
    first, second = (int(q) for q in np.quantile(lengths, [1 / 3, 2 / 3]))
    return {
        f"up to {first} characters": lengths <= first,
        f"{first + 1} to {second} characters": (lengths > first) & (lengths <= second),
        f"over {second} characters": lengths > second,
    }
