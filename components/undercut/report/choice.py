"""The first screen: the choice and its figures, or by how much each candidate missed; the hosted prices."""

import math
from collections.abc import Sequence
from typing import Any

from undercut.bar import TRAFFIC
from undercut.report.reading import Row, Run
from undercut.wording import milliseconds, money, percent, quantity, size, times

METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1"}
REASON_START = "missed the bar: "


def metric_name(run: Run) -> str:
    """Return the bar's metric as people write it."""
    return METRICS[run.selection["bar"]["metric"]]


def unit(run: Run) -> str:
    """Return what one answer's latency belongs to: a request, or a batch of 32."""
    batch = TRAFFIC[run.selection["traffic"]]
    return "one request" if batch == 1 else f"a batch of {batch}"


def figures(run: Run, chosen: Row) -> list[dict[str, str]]:
    """Return the big figures of the chosen candidate: ``name``, ``value``, ``note``."""
    selection, metric = run.selection, chosen["metric"]
    bar = selection["bar"]
    rows = run.evaluation(chosen)["n"]
    price = money(chosen["usd_per_million_requests"])
    found = [
        {
            "name": metric_name(run),
            "value": f"{metric['value']:.3f}",
            "note": f"{metric['low']:.3f} to {metric['high']:.3f} at {percent(bar['confidence'])} confidence, "
            f"{rows:,} test rows; the bar is {bar['minimum']:.3f}",
        },
        {
            "name": "per million requests",
            "value": price,
            "note": f"{selection['traffic']} traffic on one {selection['hardware']} "
            f"at {money(selection['usd_per_hour'])} an hour",
        },
        {
            "name": f"for {unit(run)}",
            "value": milliseconds(chosen["latency_ms"]),
            "note": f"median on one thread, 95th percentile {milliseconds(chosen['latency_p95_ms'])}; "
            f"{quantity(chosen['requests_per_second'])} requests a second",
        },
        {
            "name": "on disk",
            "value": size(chosen["bytes"]),
            "note": f"{size(chosen['peak_memory_bytes'])} of memory at its peak",
        },
    ]
    return found + _undercut(run, chosen)


def _undercut(run: Run, chosen: Row) -> list[dict[str, str]]:
    """Compare the price with the fine-tuned model's as it is."""
    reference = run.reference
    if reference is None or reference is chosen:
        return []
    dear, cheap = reference["usd_per_million_requests"], chosen["usd_per_million_requests"]
    cheaper = dear >= cheap
    return [
        {
            "name": "cheaper than the fine-tuned model" if cheaper else "the price of the fine-tuned model",
            "value": times(dear / cheap if cheaper else cheap / dear).replace(" times", "\N{MULTIPLICATION SIGN}"),
            "note": f"as it is, that costs {money(dear)} and reaches {reference['metric']['value']:.3f}",
        }
    ]


def misses(run: Run) -> list[dict[str, Any]]:
    """Return what each candidate that has figures missed, the nearest first."""
    ordered = sorted(run.running, key=lambda row: -row["metric"]["low"])
    return [
        {
            "candidate": row["candidate"],
            "metric": row["metric"],
            "misses": row["reason"].removeprefix(REASON_START).split("; "),
        }
        for row in ordered
    ]


def hosted(run: Run, run_cost: float) -> list[dict[str, Any]]:
    """Return our own and the hosted prices, the cheapest first, with a position from 0 to 1 on a log scale.

    Args:
        run: the run.
        run_cost: what it had cost when the choice was made, US dollars, for the break-even.
    """
    own = [row for row in (run.chosen, run.reference) if row is not None]
    entries: list[dict[str, Any]] = [
        {
            "name": row["candidate"],
            "own": True,
            "note": "chosen" if row is run.chosen else "the fine-tuned model as it is",
            "usd": row["usd_per_million_requests"],
            "usd_tokens": row["usd_per_million_tokens"],
        }
        for i, row in enumerate(own)
        if row not in own[:i]
    ]
    for price in run.selection["hosted"]:
        entries.append(
            {
                "name": price["name"],
                "own": False,
                "usd": price["usd_per_million_requests"],
                "usd_tokens": price["usd_per_million_tokens"],
                "date": price["date"],
                "source": price["source"],
                "break_even": _break_even(run, price["usd_per_million_requests"], run_cost),
                "ratio": price["usd_per_million_requests"] / own[0]["usd_per_million_requests"] if own else None,
            }
        )
    entries.sort(key=lambda entry: entry["usd"])
    for entry, position in zip(entries, log_positions([e["usd"] for e in entries]), strict=True):
        entry["position"] = position
    return entries


def _break_even(run: Run, usd: float, run_cost: float) -> float | None:
    """Return after how many requests the run has paid for itself; None if nothing is saved or chosen."""
    saved = (usd - run.chosen["usd_per_million_requests"]) / 1e6 if run.chosen else 0.0
    return run_cost / saved if saved > 0 else None


def log_positions(amounts: Sequence[float]) -> list[float]:
    """Return where amounts lie between a third of the least and the greatest, on a log scale, 0 to 1."""
    paid = [a for a in amounts if a > 0]
    if not paid:
        return [0.0 for _ in amounts]
    low, high = math.log(min(paid) / 3), math.log(max(paid))
    return [(math.log(a) - low) / (high - low) if a > 0 else 0.0 for a in amounts]
