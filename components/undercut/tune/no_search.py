"""No search: the folder that says so, so that what comes after has one input, whether there was a search or not."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from undercut import artifacts, events
from undercut.tune.settings import SEARCHED, TuneConfig


def no_search(data: Path, output: Path, config: TuneConfig, made: Path | None) -> dict[str, Any]:
    """Seal a tuning folder without trials and return no hyperparameters; the base is not looked at.

    Args:
        data: dataset folder.
        output: where ``tuning.json`` goes.
        config: settings.
        made: the base as transfer or pretrain made it; it stands before ``config.base_model``.
    """
    events.parameters(asdict(config))
    card = artifacts.load(data, artifacts.DATASET)
    base = artifacts.load(made, artifacts.MODEL)["base_model"] if made else None
    rows = card["rows"]
    content = no_trials(rows["validation"], config) | {
        "stopped_by": "trials",
        "study": {"name": "", "storage": "none"},
        "dataset": card["digest"],
        "base_model": {"uri": base["uri"] if base else config.base_model.partition("#")[0], "digest": None},
        "train_rows": min(config.train_rows or rows["train"], rows["train"]),
    }
    output.mkdir(parents=True, exist_ok=True)
    artifacts.seal(output, artifacts.TUNING, content)
    events.message(str(content["sentence"]))
    return {}


def no_trials(rows: int, config: TuneConfig) -> dict[str, Any]:
    """Return the content of ``tuning.json`` of a search that was left out.

    Args:
        rows: validation rows.
        config: settings.
    """
    return {
        "metric": config.metric,
        "seed": config.seed,
        "hyperparameters": {},
        "defaults": config.defaults,
        "ranges": {name: list(config.bounds(name, config.method)) for name in SEARCHED},
        "methods": list(config.searched_methods),
        "learning_rate_ranges": {m: list(config.bounds("learning_rate", m)) for m in config.searched_methods},
        "best_trial": None,
        "default_trial": None,
        "gain": None,
        "validation_rows": rows,
        "trials": [],
        "importances": {},
        "pruner": config.pruner,
        "budget": {k: getattr(config, k) for k in ("trials", "max_seconds", "budget_usd", "usd_per_hour")},
        "seconds": 0.0,
        "cost_usd": 0.0 if config.usd_per_hour else None,
        "sentence": "No search was asked for (trials is 0): fine-tuning keeps its own settings.",
    }
