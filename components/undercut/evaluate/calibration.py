"""Whether probabilities can be believed: bins of the answer's probability, and the gap between it and the truth."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut.intervals import bootstrap
from undercut.predictors import FloatArray

BINS = 10
RESAMPLES = 500


def which_bin(probabilities: FloatArray) -> NDArray[np.int64]:
    """Return the bin of each probability, of ten of equal width."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)


def bins_of(confidence: FloatArray, correct: NDArray[Any]) -> list[dict[str, Any]]:
    """Return ten bins of a probability, with its mean and the share of what it promises in each.

    Args:
        confidence: probabilities, of any shape.
        correct: whether what each is the probability of is so, of the same shape.
    """
    which = which_bin(confidence)
    return [
        {
            "low": b / BINS,
            "high": (b + 1) / BINS,
            "confidence": float(confidence[which == b].mean()) if (which == b).any() else None,
            "accuracy": float(correct[which == b].mean()) if (which == b).any() else None,
            "n": int((which == b).sum()),
        }
        for b in range(BINS)
    ]


def calibration_bins(probabilities: FloatArray, truth: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return ten bins of the answer's probability, with mean probability and accuracy in each."""
    return bins_of(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)


def calibration_error(
    probabilities: FloatArray, truth: NDArray[np.int64], confidence: float, seed: int
) -> dict[str, float]:
    """Return the expected calibration error (Naeini et al. 2015, ten bins of equal width), with interval.

    Of one label a row (``truth`` of shape (rows,)) the answer's probability counts; of label sets, zeros and
    ones of shape (rows, labels), every label's, the mean over labels.
    """
    if truth.ndim == 1:
        sure, right = probabilities.max(axis=1, keepdims=True), (probabilities.argmax(axis=1) == truth)[:, None]
    else:
        sure, right = probabilities, truth == 1
    which, gaps = which_bin(sure), (right - sure.astype(np.float64)) / sure.shape[1]
    by_bin = np.stack([np.where(which == b, gaps, 0.0).sum(axis=1) for b in range(BINS)], axis=1)
    ones = np.ones(len(truth), dtype=np.int64)
    interval = bootstrap(
        ones, lambda c: np.abs(c @ by_bin).sum(axis=1) / len(truth), confidence, seed, resamples=RESAMPLES
    )
    return interval.as_dict()
