"""The ledger: what every step used and cost, and the sums."""

import math
from collections.abc import Mapping
from typing import Any

from undercut import costs
from undercut.report.reading import Run

Spent = list[dict[str, Any]]


def ledger(run: Run) -> Spent:
    """Return every step up to this one in order of start, with ``usd`` and its ``share`` of the cost.

    The selection priced the steps that led to it by way of artifacts. Itself, the deployment, and what came in
    beside (a search, whose hyperparameters are values; a model that no candidate is made of; monitor) are priced here,
    by the same price book.
    """
    priced: Spent = [dict(entry) for entry in run.selection["costs"]]
    book = costs.PriceBook(devices=run.selection["devices"], hosted=())
    known = {entry["id"] for entry in priced}
    manifests = (run.selection, run.deployment, run.base, run.scratch, run.tuning, run.monitoring)
    for entry in costs.merge(manifest["ledger"] for manifest in manifests if manifest):
        if entry["id"] not in known:
            gpu_seconds = entry["seconds"] * entry["gpus"]
            priced.append({**entry, "gpu_seconds": gpu_seconds, "usd": book.cost_usd(entry)})
    total = sum(entry["usd"] for entry in priced)
    for row in priced:
        row["share"] = row["usd"] / total if total else 0.0
    return sorted(priced, key=lambda entry: entry["started"])


def until_choice(run: Run, entries: Spent) -> float:
    """Return what the steps before the selection cost, US dollars."""
    started = own_step(run.selection, entries)["started"]
    return float(sum(entry["usd"] for entry in entries if entry["started"] < started))


def own_step(manifest: Mapping[str, Any], entries: Spent) -> dict[str, Any]:
    """Return the entry of the step that made an artifact: of those in its ledger the last to start."""
    last = max(manifest["ledger"], key=lambda entry: entry["started"])["id"]
    return next(entry for entry in entries if entry["id"] == last)


def decimals(total: float) -> int:
    """Return with how many decimals the ledger writes US dollars, so that its column can be added up by eye."""
    return min(9, max(2, 3 - math.floor(math.log10(total)))) if total > 0 else 2


def totals(entries: Spent) -> Mapping[str, float]:
    """Return the ledger's sums; of memory the most, and the energy of steps that know it."""
    return {
        "steps": len(entries),
        "seconds": sum(e["seconds"] for e in entries),
        "cpu_seconds": sum(e["cpu_seconds"] for e in entries),
        "gpu_seconds": sum(e["gpu_seconds"] for e in entries),
        "output_bytes": sum(e["output_bytes"] for e in entries),
        "peak_memory_bytes": max((e["peak_memory_bytes"] for e in entries), default=0),
        "energy_joules": sum(e["energy_joules"] or 0 for e in entries),
        "usd": sum(e["usd"] for e in entries),
        "ended": max((e["started"] + e["seconds"] for e in entries), default=0),
    }
