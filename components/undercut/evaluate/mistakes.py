"""The wrong answers that a model was surest of."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undercut.predictors import FloatArray

MISTAKES = 25


def mistakes(
    table: pa.Table, probabilities: FloatArray, truth: NDArray[np.int64], labels: list[str]
) -> list[dict[str, Any]]:
    """Return the wrong answers that the model was surest of."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    texts, rows = table["text"].to_pylist(), table["row"].to_pylist()
    return [
        {
            "row": rows[i],
            "text": texts[i],
            "label": labels[truth[i]],
            "predicted": labels[predicted[i]],
            "probability": float(confidence[i]),
        }
        for i in worst.tolist()
    ]
