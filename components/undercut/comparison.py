"""Compare candidates pairwise on the same test rows: difference with its interval, McNemar's test.

The difference is in accuracy; where a row may have several labels, in the bar's metric.

The interval says how large a difference may be; the p-value how often chance alone would part the two
candidates' right answers this unevenly. P-values are not corrected for the number of pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undercut.errors import ConfigurationError
from undercut.f1 import AVERAGES, f1_difference
from undercut.intervals import paired_difference
from undercut.label_sets import is_multi_label, multi_hot, same


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of McNemar's test in its exact, binomial form (McNemar 1947).

    Args:
        first_only: rows that only the first gets right.
        second_only: rows that only the second gets right.
    """
    from scipy.stats import binomtest

    disagreeing = first_only + second_only
    return float(binomtest(first_only, disagreeing, 0.5).pvalue) if disagreeing else 1.0


def compare_evaluations(
    first: Path, second: Path, confidence: float = 0.95, metric: str = "accuracy", seed: int = 0
) -> dict[str, Any]:
    """Compare two evaluation folders.

    Args:
        first: one evaluation.
        second: the other, of the same rows and labels.
        confidence: of the interval.
        metric: the bar's; what the difference is in where a row may have several labels.
        seed: of the bootstrap.

    Returns:
        ``n`` rows, ``difference`` (the first's figure minus the second's: value, low, high), ``first_only``
        and ``second_only`` (rows that only one gets right, with all their labels) and ``p_value``.

    Raises:
        ConfigurationError: they are of different rows or labels.
    """
    (rows, labels, answer), (other_rows, other_labels, other) = read_answers(first), read_answers(second)
    if not np.array_equal(rows, other_rows) or not np.array_equal(labels, other_labels):
        raise ConfigurationError(
            "evaluations",
            f"{first.name}, {second.name}",
            "evaluations on the same rows",
            "Evaluate both on one dataset",
        )
    one, two = same(answer, labels), same(other, labels)
    if is_multi_label(labels) and metric in AVERAGES:
        difference = f1_difference(metric, labels, answer, other, confidence, seed)
    else:
        difference = paired_difference(one, two, confidence, seed)
    first_only, second_only = int((one & ~two).sum()), int((~one & two).sum())
    return {
        "n": len(rows),
        "difference": difference.as_dict(),
        "first_only": first_only,
        "second_only": second_only,
        "p_value": mcnemar(first_only, second_only),
    }


def read_answers(evaluation: Path) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return rows, labels and answers in the order of the rows.

    Labels and answers are indices (rows,), or zeros and ones (rows, labels) where a row may have several.
    """
    table = pq.read_table(evaluation / "predictions.parquet")
    table = table.take(pc.sort_indices(table["row"]))
    if not pa.types.is_list(table["label"].type):
        rows, labels, answers = (table[name].to_numpy() for name in ("row", "label", "predicted"))
        return rows, labels, answers
    count = table["probabilities"].type.list_size
    return table["row"].to_numpy(), multi_hot(table["label"], count), multi_hot(table["predicted"], count)


def comparison_table(
    evaluations: Mapping[str, Path], against: Sequence[str], confidence: float = 0.95, metric: str = "accuracy"
) -> list[dict[str, Any]]:
    """Compare every candidate with each of a few.

    Args:
        evaluations: candidate's name to its evaluation folder; none of a lost candidate.
        against: names to compare with, for example the best and the chosen.
        confidence: of the intervals.
        metric: the bar's.

    Returns:
        One entry for each pair: ``candidate``, ``against``, and what :func:`compare_evaluations` returns.
    """
    return [
        {"candidate": name, "against": other, **compare_evaluations(folder, evaluations[other], confidence, metric)}
        for other in dict.fromkeys(against)
        for name, folder in evaluations.items()
        if name != other
    ]
