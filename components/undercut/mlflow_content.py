"""What MLflow shows of an artifact: a manifest's figures and facts, a selection as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from undercut import artifacts


def outcome(output: Path) -> tuple[dict[str, float], dict[str, object]]:
    """Return the figures and the facts that an artifact folder's manifest states (none: no manifest)."""
    name = artifacts.manifest_name(output)
    if name is None:
        return {}, {}
    manifest = artifacts.load(output, name)
    shown = ("digest", "lost", "chosen", "sentence", "reason", "version", "method")
    facts = {key: manifest[key] for key in shown if manifest.get(key)}
    figures: dict[str, float] = dict(_numbers(manifest.get("metrics", {}).items()))
    figures |= dict(_numbers((key, manifest.get(key)) for key in ("bytes", "parameter_count", "rows_kept")))
    return figures, facts


def _numbers(items: Iterable[tuple[str, object]]) -> Iterable[tuple[str, float]]:
    for name, value in items:
        if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
            yield from ((name, value["value"]), (f"{name}_low", value["low"]), (f"{name}_high", value["high"]))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def selection_text(selection: Mapping[str, Any]) -> str:
    """Return the choice in Markdown: the sentence, and the table of candidates."""
    metric = f"{selection['bar']['metric'].replace('_', ' ')} ({selection['bar']['confidence']:.0%} interval)"
    header = f"| candidate | {metric} | latency | price per million requests | verdict |"
    lines = [selection["sentence"], "", header, "|---|---|---|---|---|"]
    for row in selection["candidates"]:
        if row["verdict"] == "lost":
            lines.append(f"| {row['candidate']} | | | | lost: {row['reason']} |")
            continue
        value = row["metric"]
        quality = f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        cells = [row["candidate"], quality, f"{row['latency_ms']:.3g} ms", f"${row['usd_per_million_requests']:.4g}"]
        cells.append(row["verdict"])
        chosen = row["verdict"] == "chosen"
        lines.append(f"| {' | '.join(f'**{cell}**' if chosen else cell for cell in cells)} |")
    return "\n".join(lines)
