"""What evaluation says of answers that are sets of labels: figures, predictions, mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undercut.evaluate.calibration import RESAMPLES, bins_of, calibration_error
from undercut.evaluate.mistakes import MISTAKES
from undercut.f1 import AVERAGES, f1_interval, per_label
from undercut.intervals import accuracy_interval, bootstrap
from undercut.label_sets import index_lists, same
from undercut.predictors import FloatArray

Sets = NDArray[np.int64]


def figures(
    probabilities: FloatArray, truth: Sets, answers: Sets, labels: list[str], confidence: float, seed: int
) -> dict[str, Any]:
    """Return metrics with intervals, figures of each label, and calibration bins.

    Args:
        probabilities: of each label, shape (rows, labels).
        truth: zeros and ones of the same shape.
        answers: zeros and ones of the same shape.
        labels: their names.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        ``metrics``: ``micro_f1``, ``macro_f1``, ``accuracy`` (share of rows with all labels right: the exact
        match ratio), ``log_loss`` (binary, mean over labels) and ``calibration_error`` (of each label's
        probability against how often the label is there). ``threshold`` is the caller's to add.
    """
    likelihood = np.where(truth == 1, probabilities, 1 - probabilities).astype(np.float64)
    losses = -np.log(np.maximum(likelihood, 1e-12)).mean(axis=1)
    ones = np.ones(len(truth), dtype=np.int64)
    log_loss = bootstrap(ones, lambda c: c @ losses / len(truth), confidence, seed, resamples=RESAMPLES)
    return {
        "n": len(truth),
        "metrics": {
            **{name: f1_interval(name, truth, answers, confidence, seed).as_dict() for name in AVERAGES},
            "accuracy": accuracy_interval(same(truth, answers), confidence).as_dict(),
            "calibration_error": calibration_error(probabilities, truth, confidence, seed),
            "log_loss": log_loss.as_dict(),
        },
        "per_class": per_label(truth, answers, labels, confidence, seed),
        "calibration": bins_of(probabilities, truth == 1),
    }


def write_predictions(
    output: Path, rows: pa.ChunkedArray, truth: Sets, answers: Sets, probabilities: FloatArray
) -> None:
    """Write ``predictions.parquet``: each row's true and predicted label indices, and every label's probability."""
    table = {
        "row": rows,
        "label": index_lists(truth),
        "predicted": index_lists(answers),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1]),
    }
    pq.write_table(pa.table(table), output / "predictions.parquet")


def mistakes(
    table: pa.Table, probabilities: FloatArray, truth: Sets, answers: Sets, labels: list[str]
) -> list[dict[str, Any]]:
    """Return rows with a wrong label too many or too few, those first whose wrong decision was the surest.

    ``probability`` is that decision's: of the label that was given wrongly, or one minus that of the label left out.
    """
    sure = np.where(answers == 1, probabilities, 1 - probabilities)
    worst = np.where(answers != truth, sure, -1.0).max(axis=1)
    wrong = np.flatnonzero(worst >= 0)
    texts, rows = table["text"].to_pylist(), table["row"].to_pylist()
    return [
        {
            "row": rows[i],
            "text": texts[i],
            "label": _named(truth[i], labels),
            "predicted": _named(answers[i], labels),
            "probability": float(worst[i]),
        }
        for i in wrong[np.argsort(-worst[wrong], kind="stable")][:MISTAKES].tolist()
    ]


def _named(row: Sets, labels: list[str]) -> str:
    return ", ".join(labels[i] for i in np.flatnonzero(row)) or "(none)"
