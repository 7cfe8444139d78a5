"""The search for hyperparameters: what it found, what it tried and what that cost."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from undercut.report.reading import Run
from undercut.report.spending import Spent, own_step
from undercut.report.tuning_plots import curves_plot, history_plot, slice_plots, value_text
from undercut.wording import duration, money

ENDED_BY = {"trials": "its number of trials", "max_seconds": "time", "budget_usd": "money"}
STATES = {"complete": "finished", "pruned": "stopped early"}


def tuning(run: Run, entries: Spent) -> dict[str, Any] | None:
    """Return what the section shows of the search; None if there was none, or it had no trials."""
    manifest = run.tuning
    if manifest is None or not manifest["trials"]:
        return None
    return {
        "sentence": manifest["sentence"],
        "hyperparameters": [_row(manifest, name) for name in manifest["defaults"]],
        "importances": bool(manifest["importances"]),
        "facts": _facts(manifest, entries),
        "early": any(t["state"] == "pruned" for t in manifest["trials"]),
        "history": history_plot(manifest),
        "curves": curves_plot(manifest),
        "slices": slice_plots(manifest),
    }


def _row(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    default, best = manifest["defaults"][name], manifest["hyperparameters"][name]
    return {
        "name": name.replace("_", " "),
        "default": value_text(default),
        "best": value_text(best),
        "changed": best != default,
        "range": " to ".join(value_text(end) for end in manifest["ranges"][name]),
        "importance": manifest["importances"].get(name),
    }


def _facts(manifest: Mapping[str, Any], entries: Spent) -> dict[str, str]:
    states = Counter(STATES.get(trial["state"], trial["state"]) for trial in manifest["trials"])
    step = own_step(manifest, entries)
    pruning = {} if manifest["pruner"] == "none" else {"pruning": manifest["pruner"].replace("-", " ")}
    return {
        "trials": f"{len(manifest['trials'])}: " + ", ".join(f"{count} {state}" for state, count in states.items()),
        **pruning,
        "searched on": f"{manifest['train_rows']:,} training and {manifest['validation_rows']:,} validation rows",
        "limited by": ENDED_BY[manifest["stopped_by"]],
        "trials' time": duration(manifest["seconds"]),
        "the step": f"{duration(step['seconds'])}, {money(step['usd'])}",
    }
