"""The quality section: the shown candidate's confusion, calibration, labels, slices and mistakes."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from undercut.report.quality_plots import DRAWN_LABELS, calibration_plot, confusion_plot
from undercut.report.reading import Row, Run

PAIRS = 10


def quality(run: Run, shown: Row) -> dict[str, Any]:
    """Return what the section shows of one candidate's evaluation."""
    evaluation = run.evaluation(shown)
    labels = run.data["labels"]
    # Where a row may have several labels, none is taken for another: there is no confusion matrix.
    confusion = evaluation.get("confusion")
    assert len(labels) == len(evaluation["per_class"]), "one dataset, one label list"
    return {
        "candidate": shown["candidate"],
        "rows": evaluation["n"],
        "metrics": evaluation["metrics"],
        "confidence": evaluation["confidence"],
        "matrix": confusion_plot(confusion, labels) if confusion and len(labels) <= DRAWN_LABELS else None,
        "wide": len(labels) > 10,
        "pairs": confused_pairs(confusion or [], labels),
        "confusion": confusion is not None,
        "calibration": calibration_plot(evaluation["calibration"]),
        "per_class": sorted(evaluation["per_class"], key=lambda entry: (entry["n"] == 0, entry["f1"], -entry["n"])),
        "slices": parts(evaluation),
        "mistakes": evaluation["mistakes"],
    }


def parts(evaluation: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return the parts of the test rows by column; languages have a section of their own."""
    of_language = (evaluation.get("languages") or {}).get("column")
    slices = [entry for entry in evaluation["slices"] if entry["column"] != of_language]
    return [(column, list(part)) for column, part in groupby(slices, lambda entry: entry["column"])]


def confused_pairs(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most frequent mistakes: true label, answer, how many, share of the true label's rows."""
    found: list[dict[str, Any]] = [
        {"label": labels[i], "predicted": labels[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda pair: (-pair["count"], -pair["share"]))[:PAIRS]
