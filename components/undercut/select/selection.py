"""Join what was measured, price it, choose, and seal the chosen model and the selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undercut import artifacts, costs, events
from undercut.bar import TRAFFIC, Bar, parse_bar
from undercut.candidates import REFERENCE
from undercut.comparison import comparison_table, read_answers
from undercut.errors import ConfigurationError
from undercut.f1 import AVERAGES, f1_interval
from undercut.intervals import Interval, accuracy_interval, macro_f1_interval
from undercut.label_sets import is_multi_label, same
from undercut.select.choose import (
    Contender,
    batch_of,
    choose,
    hosted_comparison,
    pareto,
    sentence,
    usd_per_million_requests,
)

# What a hosted model is sent besides the text, and what it answers.
INSTRUCTION_TOKENS = 40
TOKENS_PER_LABEL = 4
ANSWER_TOKENS = 4

CARDS = "candidates"  # in the selection's folder: a folder a candidate with model.json and metrics.json


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One candidate's artifacts; ``folder`` is its evaluation's."""

    model: Path
    manifest: artifacts.Manifest
    folder: Path
    evaluation: artifacts.Manifest
    profile: Mapping[str, Any]
    metric: Interval


def select(
    models: Sequence[Path],
    evaluations: Sequence[Path],
    profiles: Path,
    chosen_output: Path,
    output: Path,
    bar: Mapping[str, Any],
    traffic: str,
    prices: Mapping[str, Any],
    hardware: str,
) -> bool:
    """Choose the cheapest candidate that clears the bar.

    Args:
        models: servable model folders.
        evaluations: their evaluation folders, in any order.
        profiles: the profiles folder.
        chosen_output: where the chosen model goes; a folder marked as lost if none passes.
        output: where ``selection.json`` goes.
        bar: the bar as in a recipe.
        traffic: ``online`` or ``batch``.
        prices: the price book as in YAML.
        hardware: the device that candidates are priced on.

    Returns:
        Whether a candidate passed.
    """
    if traffic not in TRAFFIC:
        raise ConfigurationError("traffic", traffic, f"one of {', '.join(TRAFFIC)}")
    parsed, book = parse_bar(bar), costs.parse_price_book(prices)
    card = artifacts.load(profiles, artifacts.PROFILES)
    measured = join(models, evaluations, card, parsed)
    per_hour = book.usd_per_hour(hardware)
    contenders = [_contender(m, traffic, per_hour) for m in measured]
    winner = choose(contenders, parsed)
    front = pareto(contenders)
    ledger = costs.merge(artifacts.load(p, n)["ledger"] for p, n in _inputs(models, evaluations, profiles))
    run_cost = sum(book.cost_usd(entry) for entry in ledger)
    running = [c for c in contenders if not c.lost]
    best = max(running, key=lambda c: c.metric.value) if running else None
    labels = len(measured[0].manifest["labels"])
    tokens = card["tokens_per_request"]
    prompt = tokens + INSTRUCTION_TOKENS + TOKENS_PER_LABEL * labels
    output.mkdir(parents=True, exist_ok=True)
    content = {
        "passed": winner is not None,
        "chosen": winner.name if winner else "",
        "best": best.name if best else "",
        "bar": parsed.as_dict(),
        "traffic": traffic,
        "hardware": hardware,
        "usd_per_hour": per_hour,
        "sentence": sentence(winner, contenders, parsed, REFERENCE),
        "tokens_per_request": tokens,
        "candidates": [_row(m, c, traffic, tokens, c.name in front) for m, c in zip(measured, contenders, strict=True)],
        "comparisons": comparison_table(
            {c.name: m.folder for m, c in zip(measured, contenders, strict=True) if not c.lost},
            [c.name for c in (best, winner) if c],
            parsed.confidence,
            parsed.metric,
        ),
        "hosted": hosted_comparison(
            book.hosted,
            prompt,
            ANSWER_TOKENS,
            winner.usd_per_million_requests if winner else None,
            run_cost,
        ),
        "hosted_tokens": {"input": prompt, "output": ANSWER_TOKENS},
        "devices": dict(book.devices),
        "run_cost_usd": run_cost,
        "costs": [_cost(entry, book) for entry in ledger],
    }
    _keep_cards(measured, output)
    artifacts.seal(output, artifacts.SELECTION, content)
    _hand_on(measured, contenders, winner, chosen_output)
    events.message(content["sentence"])
    return winner is not None


def join(models: Sequence[Path], evaluations: Sequence[Path], profiles: Mapping[str, Any], bar: Bar) -> list[Measured]:
    """Match models with evaluations and profiles by name and digest, whatever order they came in."""
    evaluated = {}
    for folder in evaluations:
        card = artifacts.load(folder, artifacts.EVALUATION)
        evaluated[card["candidate"], card["model"]] = (folder, card)
    profiled = {(p["candidate"], p["model"]): p for p in profiles["profiles"]}
    found = []
    for model in models:
        manifest = artifacts.load(model, artifacts.MODEL)
        key = (f"{manifest['structure']}/{manifest['precision']}", manifest["digest"])
        assert key in evaluated, f"{key} has no evaluation"
        assert key in profiled, f"{key} has no profile"
        folder, card = evaluated[key]
        metric = interval(folder, manifest, bar)
        found.append(
            Measured(
                model=model, manifest=manifest, folder=folder, evaluation=card, profile=profiled[key], metric=metric
            )
        )
    return found


def interval(evaluation: Path, manifest: artifacts.Manifest, bar: Bar) -> Interval:
    """Return the bar's metric with its interval at the bar's confidence, from every prediction."""
    if manifest["lost"]:
        return Interval(value=0.0, low=0.0, high=0.0)
    _, truth, predicted = read_answers(evaluation)
    if is_multi_label(truth) and bar.metric in AVERAGES:
        return f1_interval(bar.metric, truth, predicted, bar.confidence)
    if bar.metric in ("accuracy", "micro_f1"):
        return accuracy_interval(same(truth, predicted), bar.confidence)
    labels = len(manifest["labels"])
    confusion = np.zeros((labels, labels), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return macro_f1_interval(confusion, bar.confidence)


def _inputs(models: Sequence[Path], evaluations: Sequence[Path], profiles: Path) -> list[tuple[Path, str]]:
    named = [(p, artifacts.MODEL) for p in models] + [(p, artifacts.EVALUATION) for p in evaluations]
    return [*named, (profiles, artifacts.PROFILES)]


def _contender(measured: Measured, traffic: str, per_hour: float) -> Contender:
    manifest = measured.manifest
    name = f"{manifest['structure']}/{manifest['precision']}"
    if manifest["lost"]:
        empty = Interval(value=0.0, low=0.0, high=0.0)
        price = float("inf")
        return Contender(
            name=name, metric=empty, latency_ms=0.0, usd_per_million_requests=price, bytes=0, lost=manifest["lost"]
        )
    batches = measured.profile["batches"]
    return Contender(
        name=name,
        metric=measured.metric,
        latency_ms=batches["1"]["latency_ms"]["p50"],
        usd_per_million_requests=usd_per_million_requests(per_hour, batches[batch_of(traffic)]["requests_per_second"]),
        bytes=manifest["bytes"],
    )


def _row(measured: Measured, contender: Contender, traffic: str, tokens: float, on_front: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "candidate": contender.name,
        "structure": measured.manifest["structure"],
        "precision": measured.manifest["precision"],
        "digest": measured.manifest["digest"],
        "passed": contender.passed,
        "pareto": on_front,
        "verdict": contender.verdict,
        "reason": contender.reason,
    }
    if contender.lost:
        return row
    batches = measured.profile["batches"]
    metrics = measured.evaluation["metrics"]
    return row | {
        "metric": measured.metric.as_dict(),
        "accuracy": metrics["accuracy"],
        "macro_f1": metrics["macro_f1"],
        **({"micro_f1": metrics["micro_f1"]} if "micro_f1" in metrics else {}),
        "latency_ms": batches[batch_of(traffic)]["latency_ms"]["p50"],
        "latency_p95_ms": batches[batch_of(traffic)]["latency_ms"]["p95"],
        "requests_per_second": batches[batch_of(traffic)]["requests_per_second"],
        "bytes": contender.bytes,
        "peak_memory_bytes": measured.profile["peak_memory_bytes"],
        "usd_per_million_requests": contender.usd_per_million_requests,
        "usd_per_million_tokens": contender.usd_per_million_requests / tokens,
    }


def _cost(entry: costs.LedgerEntry, book: costs.PriceBook) -> dict[str, Any]:
    return {**entry, "gpu_seconds": entry["seconds"] * entry["gpus"], "usd": book.cost_usd(entry)}


def _keep_cards(measured: Sequence[Measured], output: Path) -> None:
    """Copy each candidate's manifests, for the report: KFP hands no artifact lists to a step behind a condition."""
    for number, candidate in enumerate(measured):
        folder = output / CARDS / f"{number:02d}"
        folder.mkdir(parents=True)
        artifacts.write_json(folder / artifacts.MODEL, candidate.manifest)
        artifacts.write_json(folder / artifacts.EVALUATION, candidate.evaluation)


def _hand_on(
    measured: Sequence[Measured], contenders: Sequence[Contender], winner: Contender | None, output: Path
) -> None:
    """Copy the chosen model; if none passed, seal an empty folder that says so."""
    output.mkdir(parents=True, exist_ok=True)
    source = next((m for m, c in zip(measured, contenders, strict=True) if c is winner), measured[0])
    content = artifacts.content(source.manifest)
    if winner is None:
        content["lost"] = "no candidate clears the bar"
    else:
        artifacts.copy_files(source.model, output, source.manifest["files"])
    artifacts.seal(output, artifacts.MODEL, content)
