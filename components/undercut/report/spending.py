"""The ledger: what every step used and cost, and the sums."""

import math
from collections.abc import Mapping
from typing import Any

from undercut import costs
from undercut.report.reading import Run

Spent = list[dict[str, Any]]


def ledger(run: Run) -> Spent:
    """Return every step up to this one in order of start, with ``usd`` and its ``share`` of the cost.

    The selection priced the steps before it; itself and the deployment are priced here, by the same
    price book.
    """
    priced: Spent = [dict(entry) for entry in run.selection["costs"]]
    book = costs.PriceBook(devices=run.selection["devices"], hosted=())
    known = {entry["id"] for entry in priced}
    later = costs.merge(manifest["ledger"] for manifest in (run.selection, run.deployment) if manifest)
    for entry in later:
        if entry["id"] not in known:
            gpu_seconds = entry["seconds"] * entry["gpus"]
            priced.append({**entry, "gpu_seconds": gpu_seconds, "usd": book.cost_usd(entry)})
    total = sum(entry["usd"] for entry in priced)
    for row in priced:
        row["share"] = row["usd"] / total if total else 0.0
    return sorted(priced, key=lambda entry: entry["started"])


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
