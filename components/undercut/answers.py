"""What a served model answers: bodies of KServe's V1 and tensors of V2, for one label a text or several."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut.label_sets import MultiLabelPredictor, names
from undercut.predictors import FloatArray, Predictor

TOP = 3
# Says which model made an answer; in V2 also the answer's parameter ``model_digest``.
DIGEST_HEADER = "undercut-model-digest"
# V2's outputs and their data types; the first two are answered where the request names none.
ONE_LABEL = {"label": "BYTES", "probability": "FP32", "probabilities": "FP32"}
LABEL_SETS = {"labels": "BYTES", "probabilities": "FP32"}


def bodies(predictor: Predictor, probabilities: FloatArray) -> list[dict[str, Any]]:
    """Return V1's answer to each text.

    ``label`` and ``probability``, or, of a multi-label model, ``labels``, the surest first, and their
    ``probabilities``; and ``top``, the most probable labels with their probability, answered or not.
    """
    several = isinstance(predictor, MultiLabelPredictor)
    found = []
    for row, answer in zip(probabilities, names(predictor, probabilities), strict=True):
        best = np.argsort(-row, kind="stable")[: max(TOP, len(answer) if several else 1)]
        ranked = [{"label": predictor.labels[i], "probability": round(float(row[i]), 6)} for i in best]
        shown = {"labels": answer, "probabilities": [r["probability"] for r in ranked[: len(answer)]]}
        found.append({**(shown if several else ranked[0]), "top": ranked[:TOP]})
    return found


def output_types(predictor: Predictor) -> dict[str, str]:
    """Return V2's outputs, each with its data type."""
    return LABEL_SETS if isinstance(predictor, MultiLabelPredictor) else ONE_LABEL


def tensors(predictor: Predictor, probabilities: FloatArray) -> dict[str, NDArray[Any]]:
    """Return V2's outputs, one entry a text each; ``probabilities`` has shape (texts, labels).

    ``labels`` holds a JSON list a text: a tensor has no rows of different lengths.
    """
    answers = names(predictor, probabilities)
    if isinstance(predictor, MultiLabelPredictor):
        lists = [json.dumps(labels, ensure_ascii=False) for labels in answers]
        return {"labels": np.array(lists, dtype=np.object_), "probabilities": probabilities}
    labels = np.array(answers, dtype=np.object_)
    return {"label": labels, "probability": probabilities.max(axis=1), "probabilities": probabilities}
