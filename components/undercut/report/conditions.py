"""What becomes of accuracy in other conditions: by language, and as hurried people type. Of every candidate."""

from collections.abc import Mapping, Sequence
from typing import Any

from undercut.report.differences import effect
from undercut.report.reading import Row, Run

FIRST_LANGUAGES = 12


def ordered(run: Run) -> list[Row]:
    """Return the candidates that have figures, the shown one first."""
    return sorted(run.running, key=lambda row: row is not run.shown)


def languages(run: Run) -> dict[str, Any] | None:
    """Return accuracy by language of every candidate; None if the rows do not name their language.

    ``rows`` has an entry a language, the shown candidate's worst first, and ``means`` the means over
    languages; each with ``cells``, an interval a candidate in the order of ``candidates``, and its ``place``
    between the least and the greatest of all, 0 to 1.
    """
    running = ordered(run)
    found = [one for row in running if (one := run.evaluation(row).get("languages"))]
    if not running or len(found) < len(running):
        return None
    first = found[0]
    by_name = [{entry["language"]: entry for entry in one["accuracy"]} for one in found]
    rows: list[dict[str, Any]] = [
        {
            "name": entry["language"],
            "n": entry["n"],
            "train_rows": entry["train_rows"],
            "cells": [names[entry["language"]] for names in by_name],
        }
        for entry in sorted(first["accuracy"], key=lambda entry: float(entry["value"]))
    ]
    means = [{"name": "mean over languages", "cells": [one["macro"] for one in found]}] if len(rows) > 1 else []
    if first["macro_unseen"] and len(rows) > 1:
        means.append({"name": "mean over those not trained on", "cells": [one["macro_unseen"] for one in found]})
    return {
        "column": first["column"],
        "candidates": running,
        "rows": _shaded(rows),
        "means": means,
        "low": max(0.0, min(row["cells"][0]["low"] for row in rows) - 0.02),
        "trained": any(row["train_rows"] is not None for row in rows),
        "unseen": [row["name"] for row in rows if row["train_rows"] == 0],
        "first": FIRST_LANGUAGES,
        "confidence": run.evaluation(running[0])["confidence"],
    }


def _shaded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    values = [cell["value"] for row in rows for cell in row["cells"]]
    low, span = min(values), max(max(values) - min(values), 0.01)
    return [row | {"cells": [c | {"place": (c["value"] - low) / span} for c in row["cells"]]} for row in rows]


def typing(run: Run) -> dict[str, Any] | None:
    """Return what each way of hurried typing costs every candidate; None if it was not measured.

    ``rows`` has an entry a candidate: ``plain`` (accuracy of the sample as it is), and ``cells`` in the order
    of ``ways``, each with the paired difference, its ``effect`` and the loss's ``share`` of the greatest.
    """
    rows = [(row, run.evaluation(row).get("robustness") or []) for row in ordered(run)]
    if not rows or not all(measured for _, measured in rows):
        return None
    first = rows[0][1]
    most = max(_loss(entry) for _, measured in rows for entry in measured)
    return {
        "ways": [{"name": entry["perturbation"], "changed": entry["changed"]} for entry in first],
        "n": first[0]["n"],
        "confidence": run.evaluation(run.running[0])["confidence"],
        "rows": [
            {
                "candidate": row["candidate"],
                "verdict": row["verdict"],
                "plain": measured[0]["accuracy"]["value"] - measured[0]["difference"]["value"],
                "cells": [
                    entry | {"effect": effect(entry["difference"]), "share": _loss(entry) / most if most else 0.0}
                    for entry in measured
                ],
            }
            for row, measured in rows
        ],
    }


def _loss(entry: Mapping[str, Any]) -> float:
    return max(0.0, -float(entry["difference"]["value"]))
