"""Compare candidates pairwise on the same test rows: difference in accuracy with its interval, McNemar's test.

The interval says how large a difference may be; the p-value how often chance alone would part the two
candidates' right answers this unevenly. P-values are not corrected for the number of pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undercut.errors import ConfigurationError
from undercut.intervals import paired_difference


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of McNemar's test in its exact, binomial form (McNemar 1947).

    Args:
        first_only: rows that only the first gets right.
        second_only: rows that only the second gets right.
    """
    from scipy.stats import binomtest

    disagreeing = first_only + second_only
    return float(binomtest(first_only, disagreeing, 0.5).pvalue) if disagreeing else 1.0


def compare_evaluations(first: Path, second: Path, confidence: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """Compare two evaluation folders.

    Returns:
        ``n`` rows, ``difference`` (accuracy of the first minus that of the second: value, low, high),
        ``first_only`` and ``second_only`` (rows that only one gets right) and ``p_value``.

    Raises:
        ConfigurationError: they are of different rows or labels.
    """
    (rows, labels, one), (other_rows, other_labels, two) = _answers(first), _answers(second)
    if not np.array_equal(rows, other_rows) or not np.array_equal(labels, other_labels):
        raise ConfigurationError(
            "evaluations",
            f"{first.name}, {second.name}",
            "evaluations on the same rows",
            "Evaluate both on one dataset",
        )
    first_only, second_only = int((one & ~two).sum()), int((~one & two).sum())
    return {
        "n": len(rows),
        "difference": paired_difference(one, two, confidence, seed).as_dict(),
        "first_only": first_only,
        "second_only": second_only,
        "p_value": mcnemar(first_only, second_only),
    }


def _answers(evaluation: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return rows, labels and whether the answer is right, in the order of the rows."""
    table = pq.read_table(evaluation / "predictions.parquet", columns=["row", "label", "predicted"]).sort_by("row")
    rows, labels, predicted = (table[name].to_numpy() for name in ("row", "label", "predicted"))
    return rows, labels, labels == predicted


def comparison_table(
    evaluations: Mapping[str, Path], against: Sequence[str], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Compare every candidate with each of a few.

    Args:
        evaluations: candidate's name to its evaluation folder; none of a lost candidate.
        against: names to compare with, for example the best and the chosen.
        confidence: of the intervals.

    Returns:
        One entry for each pair: ``candidate``, ``against``, and what :func:`compare_evaluations` returns.
    """
    return [
        {"candidate": name, "against": other, **compare_evaluations(folder, evaluations[other], confidence)}
        for other in dict.fromkeys(against)
        for name, folder in evaluations.items()
        if name != other
    ]
