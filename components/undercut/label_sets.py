"""Texts with several labels or none: how such labels are held, and how probabilities become answers.

On disk a row's labels are a list of label indices; in memory all rows' are a matrix of zeros and ones of
shape (rows, labels). Each label has a probability of its own (a sigmoid, not a softmax); the answer is every
label whose probability reaches one threshold, the same for all labels, chosen for micro-F1 on rows that the
model was not trained on (Yang 2001, "A study of thresholding strategies for text categorization", whose SCut
has one a label; one for all overfits less where labels are rare) and recorded in ``model.json`` under
``threshold``. Models trained on its answers keep it: their probabilities are fitted to the same; a linear
model has its own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the serve image reads models, not data sets, and does without
    import pyarrow as pa

TASK = "multi-label-text-classification"
# Where held-out rows have no label at all, there is nothing to choose by.
DEFAULT_THRESHOLD = 0.5

FloatArray = NDArray[np.float32]


def is_multi_label(labels: NDArray[Any]) -> bool:
    """Tell label sets, shape (rows, labels), from one label index a row, shape (rows,)."""
    return labels.ndim == 2


def multi_hot(column: "pa.ChunkedArray", labels: int) -> NDArray[np.int64]:
    """Return a column of lists of label indices as zeros and ones, shape (rows, labels)."""
    import pyarrow as pa

    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    sizes = np.diff(lists.offsets.to_numpy())
    matrix = np.zeros((len(lists), labels), dtype=np.int64)
    matrix[np.repeat(np.arange(len(lists)), sizes), lists.flatten().to_numpy()] = 1
    return matrix


def index_lists(matrix: NDArray[Any]) -> "pa.ListArray":
    """Return what :func:`multi_hot` took: each row's label indices, ascending, int32."""
    import pyarrow as pa

    rows, indices = np.nonzero(matrix)
    sizes = np.bincount(rows, minlength=len(matrix))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(indices.astype(np.int32)))


def strata(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each row, shape (rows,), equal where rows have the same label or labels."""
    if not is_multi_label(labels):
        return labels
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def sigmoid(logits: NDArray[Any]) -> FloatArray:
    """Return 1 / (1 + exp(-logits)) in float32."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float32))), dtype=np.float32)


def choose_threshold(probabilities: FloatArray, truth: NDArray[np.int64]) -> float:
    """Return the threshold with the best micro-F1 on held-out rows.

    Args:
        probabilities: shape (rows, labels), of a model that was not trained on these rows.
        truth: zeros and ones of the same shape.

    Returns:
        The middle between the last probability that should be an answer and the next below it; 0.5 where
        no row has a label.
    """
    if not truth.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-probabilities.ravel(), kind="stable")
    ranked, hits = probabilities.ravel()[order].astype(np.float64), np.cumsum(truth.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    # Equal probabilities are answered alike: a threshold lies after the last of them.
    last = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


class MultiLabelPredictor:
    """A predictor whose labels each have a probability of their own; rows do not sum to one.

    Args:
        predictor: the loaded model, with ``labels`` and ``logits(texts)`` of shape (texts, labels).
        threshold: probability from which a label is part of the answer.
    """

    def __init__(self, predictor: Any, threshold: float) -> None:
        self._predictor, self.threshold = predictor, threshold
        self.labels: tuple[str, ...] = predictor.labels

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return each label's probability, shape (texts, labels)."""
        return sigmoid(self._predictor.logits(texts))


def predicted(predictor: Any, probabilities: FloatArray) -> NDArray[np.int64]:
    """Return a predictor's answers: label indices (rows,), or zeros and ones (rows, labels) if it is multi-label."""
    return decided(probabilities, predictor.threshold if isinstance(predictor, MultiLabelPredictor) else None)


def decided(probabilities: FloatArray, threshold: float | None) -> NDArray[np.int64]:
    """Return the most probable label of each row, or, with a threshold, zeros and ones of those that reach it."""
    return probabilities.argmax(axis=1) if threshold is None else (probabilities >= threshold).astype(np.int64)


def same(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell of each row whether two answers are one, shape (rows,); of label sets, whether every label agrees."""
    equal: NDArray[np.bool_] = first == second
    return np.asarray(equal.all(axis=1)) if equal.ndim == 2 else equal


def names(predictor: Any, probabilities: FloatArray) -> list[Any]:
    """Return each row's answer in words: a label, or the list of labels if the predictor is multi-label.

    Labels of a list stand in the order of their probability, the surest first.
    """
    answers = predicted(predictor, probabilities)
    if not is_multi_label(answers):
        return [predictor.labels[i] for i in answers]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [[predictor.labels[i] for i in row if chosen[i]] for row, chosen in zip(order, answers, strict=True)]
