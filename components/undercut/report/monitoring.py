"""Why it was trained, or why it was not: what monitor compared with the champion's data, and what it found."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from undercut.report.differences import MINUS
from undercut.report.monitoring_plots import confidence_plot, shares_plot

TRAFFIC = "traffic "
NAMES = {
    "labels": "Labels of the rows",
    "answers": "The champion's answers",
    "confidence": "The champion's confidence",
    "words": "Unknown words",
    "text": "The way it is written",
    "accuracy": "The champion's accuracy",
}
PLOTS = {"labels": shares_plot, "answers": shares_plot, "confidence": confidence_plot}
LEAST_P = 1e-5  # below every threshold that the settings allow


def monitoring(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the section shows of ``monitoring.json``."""
    tests = [_test(test) for test in seen["tests"]]
    return {
        "changed": seen["changed"],
        "title": _title(seen),
        "reason": seen["reason"],
        "champion": seen["champion"],
        "facts": _facts(seen),
        "tests": tests,
        "new": any(not test["traffic"] for test in tests),
        "significance": f"{100 * seen['significance']:g}%",
        "correction": seen["correction"],
        "figures": [test for test in tests if test["plot"]],
    }


def _title(seen: Mapping[str, Any]) -> str:
    if not seen["changed"]:
        return "What was looked at"
    return "Why it was trained anew" if seen["champion"] else "Why it was trained"


def _facts(seen: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return names and values; a value may come with a ``digest``."""
    champion, rows, labels = seen["champion"], seen.get("rows"), seen.get("labels", {})
    found = [{"name": "champion", "value": "none yet"}]
    made_from = ""
    if champion:
        tags = champion["tags"]
        made_from = tags["dataset"]
        own = f"version {champion['version']}, {tags['candidate']}"
        found = [{"name": "champion", "value": own}, {"name": "made from", "value": "dataset", "digest": made_from}]
    if seen["dataset"] != made_from:
        found.append({"name": "looked at now", "value": "dataset", "digest": seen["dataset"]})
    if rows:
        relabelled = f" ({rows['relabelled']:,} of them known texts with other labels)" if rows["relabelled"] else ""
        counts = f"{rows['total']:,}: {rows['new']:,} new{relabelled}, {rows['known']:,} that the champion's data had"
        found.append({"name": "labelled rows", "value": f"{counts}; {rows['gone']:,} of those are gone"})
        if rows["test_rows_learnt"]:
            learnt = f"the champion learnt from {rows['test_rows_learnt']:,} of them: a comparison leaves those out"
            found.append({"name": "test rows", "value": learnt})
        least = seen["minimum_new_rows"]
        found.append({"name": "worth a training", "value": f"from {least:,} new row{'s' * (least > 1)}, or drift"})
    for which in ("new", "gone"):
        if labels.get(which):
            found.append({"name": f"labels {which}", "value": ", ".join(labels[which])})
    if seen.get("traffic"):
        found.append({"name": "unlabelled text", "value": seen["traffic"]})
    if seen["start"]:
        found.append({"name": "the training", "value": seen["start"]["reason"]})
    return [{"digest": "", **fact} for fact in found]


def _test(test: Mapping[str, Any]) -> dict[str, Any]:
    kind = test["test"].removeprefix(TRAFFIC)
    traffic = test["test"].startswith(TRAFFIC)
    name = f"{NAMES[kind]}, unlabelled text" if traffic else NAMES[kind]
    draw = PLOTS.get(kind)
    return {
        **test,
        "kind": kind,
        "traffic": traffic,
        "name": name,
        "most": test["detail"] if draw is shares_plot else "",
        "note": test["detail"] if kind == "accuracy" else "",
        "statistic": f"{test['statistic']:z.3f}".replace("-", MINUS),
        "p": f"<{Decimal(str(LEAST_P)):f}" if test["p_value"] < LEAST_P else _two_digits(test["p_value"]),
        "threshold": _two_digits(test["threshold"]),
        "plot": draw(name, test) if draw else None,
    }


def _two_digits(value: float) -> str:
    return f"{Decimal(f'{value:.2g}'):f}"
