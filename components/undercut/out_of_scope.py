"""Texts that fit no label: answered with an out-of-scope label where the model is not sure enough.

The label is one of the data set's own ("other", say); its rows are trained on like any label's, which
alone finds only what resembles them. A threshold finds more: where no other label reaches it, the answer
is the out-of-scope label (Larson et al. 2019, "An Evaluation Dataset for Intent Classification and
Out-of-Scope Prediction", compare both). It is chosen on validation rows, recorded in ``model.json`` under
``out_of_scope`` and applied by :func:`undercut.predictors.load_predictor`, so by every format alike.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut.errors import ConfigurationError

FloatArray = NDArray[np.float32]


def label_index(labels: Sequence[str], label: str, held: NDArray[np.int64], coverage: float) -> int:
    """Return the position of the out-of-scope label, before anything is trained.

    Args:
        labels: the data set's label names.
        label: the out-of-scope one.
        held: labels of the validation rows, shape (rows,).
        coverage: as in :func:`choose_threshold`.

    Raises:
        ConfigurationError: there is no such label, or validation has no rows of it to choose by.
    """
    if label not in labels:
        shown = ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
        raise ConfigurationError("out_of_scope_label", label, f"a label of the data set: {shown}")
    index = labels.index(label)
    if not coverage and not (held == index).any():
        got = f"{label} (no validation rows)"
        remedy = "Give out_of_scope_coverage, or more rows of that label"
        raise ConfigurationError("out_of_scope_label", got, "a label with validation rows", remedy)
    return index


def answers(probabilities: FloatArray, index: int, threshold: float) -> FloatArray:
    """Return the probabilities after the threshold, shape (texts, labels); rows still sum to one.

    Where no label but ``index`` reaches the threshold, the probability of ``index`` is raised to it and
    the row scaled back, so that ``index`` is the most probable. Other rows stay as they are.
    """
    others = np.delete(probabilities, index, axis=1).max(axis=1)
    rejected = others < threshold
    result = probabilities.copy()
    result[rejected, index] = np.maximum(result[rejected, index], np.float32(threshold))
    result[rejected] /= result[rejected].sum(axis=1, keepdims=True)
    return result


def choose_threshold(probabilities: FloatArray, truth: NDArray[np.int64], index: int, coverage: float) -> float:
    """Return the threshold for held-out rows.

    Args:
        probabilities: shape (rows, labels), of a model that was not trained on these rows.
        truth: their labels, shape (rows,).
        index: position of the out-of-scope label.
        coverage: share of the rows in scope that the threshold lets through; 0 takes the threshold with the
            best mean of accuracy in scope and recall out of scope, the lowest where several are as good.
    """
    others = np.delete(probabilities, index, axis=1).max(axis=1)
    inside = truth != index
    if coverage:
        return float(np.quantile(others[inside], 1 - coverage, method="lower"))
    assert not inside.all(), "checked before the training"
    scores = [(_balance(probabilities, truth, index, t), -t) for t in np.unique(np.append(others, 0.0)).tolist()]
    return -float(max(scores)[1])


def _balance(probabilities: FloatArray, truth: NDArray[np.int64], index: int, threshold: float) -> float:
    predicted = answers(probabilities, index, threshold).argmax(axis=1)
    inside = truth != index
    accuracy = (predicted[inside] == truth[inside]).mean() if inside.any() else 1.0
    return float(accuracy + (predicted[~inside] == index).mean()) / 2


class ThresholdPredictor:
    """A predictor whose unsure answers become the out-of-scope label."""

    def __init__(self, predictor: Any, settings: dict[str, Any]) -> None:
        self._predictor, self._threshold = predictor, settings["threshold"]
        self.labels: tuple[str, ...] = predictor.labels
        self._index = self.labels.index(settings["label"])

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities after the threshold, shape (texts, labels)."""
        return answers(self._predictor.probabilities(texts), self._index, self._threshold)
