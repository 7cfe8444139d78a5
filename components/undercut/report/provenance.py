"""Where the models come from, down to digests, and how the figures were measured."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from undercut import workspace
from undercut.candidates import candidate_name
from undercut.intervals import RESAMPLES
from undercut.registry import shown
from undercut.report.quality_plots import curve_plot
from undercut.report.reading import Run


def training(run: Run) -> dict[str, Any]:
    """Return how the teacher learned: its curve by epoch, and the settings."""
    metrics = run.teacher["metrics"]
    curve = metrics["curve"]
    loss = {name: [(p["epoch"], p[f"{name}_loss"]) for p in curve] for name in ("train", "validation")}
    accuracy = {"validation": [(p["epoch"], p["validation_accuracy"]) for p in curve]}
    return {
        "method": run.teacher["method"],
        "best_epoch": metrics["best_epoch"],
        "stopped_by": metrics["stopped_by"],
        "curve": curve,
        "loss": curve_plot("loss", loss, metrics["best_epoch"]),
        "accuracy": curve_plot("validation accuracy", accuracy, metrics["best_epoch"]),
        "parameters": run.teacher["parameters"],
        "count": run.teacher["parameter_count"],
    }


def lineage(run: Run) -> list[dict[str, str]]:
    """Return what was made from what: ``kind``, ``name``, ``made`` (how), ``digest``."""
    found = [
        {"kind": "source", "name": shown(source["uri"]), "made": f"{source['rows']:,} rows", "digest": source["sha256"]}
        for source in run.data["sources"]
    ]
    split = run.data["split"]
    how = f"{split['method']} split, seed {split['seed']}"
    found.append({"kind": "dataset", "name": run.data["task"], "made": how, "digest": run.data["digest"]})
    found += _bases(run)
    if run.tuning is not None and run.tuning["trials"]:
        how = f"{len(run.tuning['trials'])} trials, seed {run.tuning['seed']}"
        found.append({"kind": "search", "name": "hyperparameters", "made": how, "digest": run.tuning["digest"]})
    teacher = {"kind": "teacher", "name": candidate_name(run.teacher), "made": run.teacher["method"]}
    found.append(teacher | {"digest": run.teacher["digest"]})
    for row in run.rows:
        model = run.model(row)
        made = f"{model['method']}; {model['format']}" if not model["lost"] else "lost"
        found.append({"kind": "candidate", "name": row["candidate"], "made": made, "digest": row["digest"]})
    code = {"kind": "code", "name": f"undercut {version('undercut')}", "made": "package and pinned versions"}
    found.append(code | {"digest": workspace.code_digest()})
    return found


def _bases(run: Run) -> list[dict[str, str]]:
    """Return the base that was fine-tuned, what it was made of, and a model from scratch."""
    adapted, scratch = run.transferred, run.pretrained
    found = []
    if adapted is not None:
        found.append(_base(adapted["base_model"]))
        made = {"kind": "adapted base", "name": adapted["structure"], "made": adapted["method"]}
        found.append(made | {"digest": adapted["digest"]})
    elif scratch is None or run.teacher["base_model"]["digest"] != scratch["digest"]:
        found.append(_base(run.teacher["base_model"]))
    if scratch is not None:
        made = {"kind": "from scratch", "name": scratch["structure"], "made": scratch["method"]}
        found.append(made | {"digest": scratch["digest"]})
    return found


def _base(base: Mapping[str, str]) -> dict[str, str]:
    return {"kind": "base model", "name": shown(base["uri"]), "made": "", "digest": base["digest"]}


def measurement(run: Run) -> dict[str, Any]:
    """Return machine, threads, rounds, and every batch size's speed."""
    profiles = run.profiles
    speeds = [
        {"candidate": profile["candidate"], "batch": int(batch), **figures}
        for profile in profiles["profiles"]
        if not profile["lost"]
        for batch, figures in profile["batches"].items()
    ]
    return {
        "machine": profiles["machine"],
        "hardware": profiles["hardware"],
        "threads": profiles["threads"],
        "rounds": profiles["rounds"],
        "tokens": profiles["tokens_per_request"],
        "speeds": speeds,
        "resamples": RESAMPLES,
        "confidence": run.selection["bar"]["confidence"],
        "hosted_tokens": run.selection["hosted_tokens"],
    }
