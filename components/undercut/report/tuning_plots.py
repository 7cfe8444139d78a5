"""The search for hyperparameters: every trial by number, by epoch, and by each hyperparameter's value."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from undercut.report.chart import Chart, chart, finite
from undercut.report.drawing import Scale

Trial = Mapping[str, Any]

SLICE = (280.0, 220.0)  # pixels of a small plot
WIDE_RANGE = 8  # from this ratio of its ends on, a hyperparameter's axis is logarithmic


def best_so_far(values: Sequence[float], metric: str) -> list[float]:
    """Return the best of the values up to each."""
    better = max if metric == "accuracy" else min
    return [better(values[: i + 1]) for i in range(len(values))]


def value_text(value: float) -> str:
    """Return a hyperparameter's value as people write it."""
    if not float(value).is_integer():
        return f"{Decimal(f'{value:.2g}'):f}"
    return f"{value:,.0f}"


def _hint(trial: Trial) -> str:
    settings = ", ".join(f"{name} {value_text(value)}" for name, value in trial["parameters"].items())
    return f"trial {trial['number'] + 1}: {settings}"


def finished(manifest: Mapping[str, Any]) -> list[Trial]:
    """Return the trials that came to their end with a figure."""
    return [t for t in manifest["trials"] if t["state"] == "complete" and math.isfinite(t["value"])]


def history_plot(manifest: Mapping[str, Any]) -> Markup | None:
    """Draw each trial's figure in order, the best so far, and the defaults' level; None if no trial finished."""
    ended, metric = finished(manifest), manifest["metric"]
    if not ended:
        return None
    early = [(t, p[-1]) for t in manifest["trials"] if t["state"] == "pruned" and (p := _curve(t, metric))]
    count = max(t["number"] for t in manifest["trials"]) + 1
    values = [t["value"] for t in ended]
    figures = ", ".join(f"trial {t['number'] + 1} {t['value']:.3f}" for t in ended)
    every = max(1, math.ceil(count / 10))
    found = chart(
        f"Validation {metric} by trial: {figures}; {len(early)} stopped early.",
        (0.4, count + 0.6),
        [*values, *(value for _, (_, value) in early)],
        (f"validation {metric}", "trial"),
        [(n, str(n)) for n in range(1, count + 1, every)],
    )
    found.drawing.polyline("front", _steps(found, [t["number"] + 1 for t in ended], best_so_far(values, metric)))
    for trial in ended:
        if trial["number"] == manifest["default_trial"]:
            found.level("level", trial["value"])
    for trial, (_, value) in early:
        found.cross("early", (trial["number"] + 1, value), f"{_hint(trial)}: {value:.4f} when it was stopped")
    for trial in ended:
        _dot(found, manifest, trial, trial["number"] + 1)
    return found.drawing.markup()


def _steps(found: Chart, numbers: Sequence[int], best: Sequence[float]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for number, value in zip(numbers, best, strict=True):
        if points:
            points.append((found.across(number), points[-1][1]))
        points.append(found.at((number, value)))
    return [*points, (found.across.end, points[-1][1])]


def _dot(found: Chart, manifest: Mapping[str, Any], trial: Trial, across: float) -> None:
    hint = f"{_hint(trial)}: {trial['value']:.4f}"
    if trial["number"] == manifest["best_trial"]:
        found.dot("ring", (across, trial["value"]), hint, 8)
    found.dot("first", (across, trial["value"]), hint, 4)


def _curve(trial: Trial, metric: str) -> list[tuple[float, float]]:
    return finite(trial["curve"], lambda point: point["epoch"], f"validation_{metric}")


def curves_plot(manifest: Mapping[str, Any]) -> Markup | None:
    """Draw each trial's course by epoch, the best one last and thick; None if no trial came to an epoch's end."""
    metric = manifest["metric"]
    courses = [(t, points) for t in manifest["trials"] if (points := _curve(t, metric))]
    if not courses:
        return None
    last = max(int(epoch) for _, points in courses for epoch, _ in points)
    found = chart(
        f"Validation {metric} by epoch of {len(courses)} trials.",
        (0.7, max(last, 1.3) + 0.3),
        [value for _, points in courses for _, value in points],
        (f"validation {metric}", "epoch"),
        [(e, str(e)) for e in range(1, last + 1, max(1, math.ceil(last / 10)))],
    )
    for trial, points in sorted(courses, key=lambda course: course[0]["number"] == manifest["best_trial"]):
        best = trial["number"] == manifest["best_trial"]
        kind = "first" if best else "plain" if trial["state"] == "complete" else "early"
        with found.drawing.group("course", _hint(trial)):
            found.curve(kind, points)
            for epoch, value in points:
                found.dot(kind, (epoch, value), f"{_hint(trial)}, epoch {epoch}: {value:.4f}", 3.5 if best else 2.5)
    return found.drawing.markup()


def slice_plots(manifest: Mapping[str, Any]) -> list[Markup]:
    """Draw the finished trials by the value of each hyperparameter that was searched; empty if fewer than two."""
    if len(finished(manifest)) < 2:
        return []
    return [_slice(manifest, name) for name, (low, high) in manifest["ranges"].items() if low < high]


def _slice(manifest: Mapping[str, Any], name: str) -> Markup:
    ended, (low, high), default = finished(manifest), manifest["ranges"][name], manifest["defaults"][name]
    logarithmic = low > 0 and high / low >= WIDE_RANGE
    margin = (high / low) ** 0.04 if logarithmic else 0.04 * (high - low)
    ends = (low / margin, high * margin) if logarithmic else (low - margin, high + margin)
    ticks = Scale(low=ends[0], high=ends[1], start=0, end=1, logarithmic=logarithmic).ticks(4)
    if isinstance(default, int):
        ticks = [tick for tick in ticks if tick.is_integer()]
    figures = ", ".join(f"{value_text(t['parameters'][name])} {t['value']:.3f}" for t in ended)
    found = chart(
        f"Validation {manifest['metric']} by {name}: {figures}.",
        ends,
        [t["value"] for t in ended],
        (f"validation {manifest['metric']}", name.replace("_", " ")),
        [(tick, value_text(tick)) for tick in ticks],
        logarithmic=logarithmic,
        size=SLICE,
    )
    found.upright("chosen-epoch", default)
    for trial in ended:
        _dot(found, manifest, trial, trial["parameters"][name])
    return found.drawing.markup()
