"""A search's figures as SVG, from ``tuning.json`` alone: for the report.

``history``, ``slices``, ``curves`` and ``importances``; the numbers behind them are in the manifest
(``trials`` and ``importances``). A hyperparameter may be a word (the method): its values stand side by
side, the default first. The same manifest gives the same bytes.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#a0aec0"
LOGARITHMIC = ("learning_rate", "batch_tokens")


def tuning_figures(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return figure name to SVG text; a figure with nothing to show is left out.

    Args:
        manifest: a ``tuning.json``, as :func:`undercut.artifacts.load` returns it.
    """
    finished = [t for t in manifest["trials"] if t["state"] == "complete"]
    figures: dict[str, str] = {}
    if finished:
        figures["history"] = _svg(_history(manifest, finished))
        figures["slices"] = _svg(_slices(manifest, finished))
    if any(t["curve"] for t in manifest["trials"]):
        figures["curves"] = _svg(_curves(manifest))
    if manifest["importances"]:
        figures["importances"] = _svg(_importances(manifest["importances"]))
    return figures


def best_so_far(finished: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """Return the best value up to each finished trial, in the order of ``finished``."""
    values = np.array([t["value"] for t in finished], dtype=float)
    found = np.maximum.accumulate(values) if metric == "accuracy" else np.minimum.accumulate(values)
    return [float(v) for v in found]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    import matplotlib

    stream = io.StringIO()
    # Without a salt the ids are random, and without this the file would carry the time.
    with matplotlib.rc_context({"svg.hashsalt": "undercut", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _label(manifest: Mapping[str, Any]) -> str:
    return f"validation {manifest['metric']}"


def _history(manifest: Mapping[str, Any], finished: Sequence[Mapping[str, Any]]) -> "Figure":
    figure = _figure(6, 3)
    axes = figure.subplots()
    numbers = [t["number"] + 1 for t in finished]
    axes.scatter(numbers, [t["value"] for t in finished], color=BLUE, label="finished", zorder=3)
    axes.step(numbers, best_so_far(finished, manifest["metric"]), where="post", color=ORANGE, label="best so far")
    default = next((t for t in finished if t["number"] == manifest["default_trial"]), None)
    if default is not None:
        axes.axhline(default["value"], color=GREY, linestyle="--", label="the defaults")
    stopped = [t for t in manifest["trials"] if t["state"] == "pruned" and t["curve"]]
    if stopped:
        last = [t["curve"][-1][f"validation_{manifest['metric']}"] for t in stopped]
        axes.scatter([t["number"] + 1 for t in stopped], last, color=GREY, marker="x", label="stopped early")
    axes.set(xlabel="trial", ylabel=_label(manifest))
    axes.legend(frameon=False, fontsize="small")
    return figure


def _slices(manifest: Mapping[str, Any], finished: Sequence[Mapping[str, Any]]) -> "Figure":
    names = list(manifest["defaults"])
    figure = _figure(3 * len(names), 2.8)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        found, default = [t["parameters"][name] for t in finished], manifest["defaults"][name]
        if isinstance(default, str):
            words = list(dict.fromkeys([default, *found]))
            found, default = [words.index(word) for word in found], 0
            axes.set_xticks(range(len(words)), words)
            axes.margins(x=0.5 / len(words))
        axes.scatter(found, [t["value"] for t in finished], color=BLUE)
        axes.axvline(default, color=GREY, linestyle="--")
        if name in LOGARITHMIC:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(name)
    panels[0].set_ylabel(_label(manifest))
    return figure


def _curves(manifest: Mapping[str, Any]) -> "Figure":
    figure = _figure(6, 3)
    axes = figure.subplots()
    for trial in manifest["trials"]:
        chosen = trial["number"] == manifest["best_trial"]
        color = ORANGE if chosen else BLUE if trial["state"] == "complete" else GREY
        epochs = [point["epoch"] for point in trial["curve"]]
        values = [point[f"validation_{manifest['metric']}"] for point in trial["curve"]]
        axes.plot(epochs, values, color=color, marker=".", linewidth=2 if chosen else 0.8, zorder=3 if chosen else 2)
    axes.set(xlabel="epoch", ylabel=_label(manifest))
    return figure


def _importances(importances: Mapping[str, float]) -> "Figure":
    figure = _figure(5, 0.6 + 0.4 * len(importances))
    axes = figure.subplots()
    names = sorted(importances, key=lambda name: importances[name])
    axes.barh(names, [importances[name] for name in names], color=BLUE)
    axes.set(xlabel="importance", xlim=(0, 1))
    return figure
