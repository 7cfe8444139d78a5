"""What a run ends with: the candidates, the choice in a sentence, what it cost, and where to look."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from undercut import artifacts
from undercut.cli import runs
from undercut.cli.monitoring import show_monitoring, show_promotion
from undercut.wording import duration, money, size

# Headings of the figures on a wide terminal and on a narrow one (an empty one is left out there).
HEADINGS = {"ms a {answer}": "ms", "requests/s": "req/s", "size": "", "$/M requests": "$/M req", "$/M tokens": ""}
STYLES = {"chosen": "bold green", "passed": "", "missed": "dim", "lost": "dim"}


def show(folder: Path, console: Console) -> None:
    """Print the end of a run from its folder."""
    record = runs.read(folder)
    selections = record["outputs"].get("select", [])
    if watched := record["outputs"].get("monitor", []):
        show_monitoring(json.loads((Path(watched[-1]) / artifacts.MONITORING).read_text(encoding="utf-8")), console)
    if record["status"] in ("passed", "missed"):
        selection = json.loads((Path(selections[-1]) / "selection.json").read_text(encoding="utf-8"))
        console.print()
        console.print(candidates_table(selection, console.width))
        _reasons(selection, console)
        console.print(Text(selection["sentence"], style="bold"), soft_wrap=True)
        if watched and (shipped := record["outputs"].get("deploy", [])):
            show_promotion(json.loads((Path(shipped[-1]) / artifacts.DEPLOYMENT).read_text(encoding="utf-8")), console)
    elif record["status"] == "finished" and not watched:
        console.print()
        for step, paths in record["outputs"].items():
            console.print(Text(f"  {step:<9} {paths[-1]}"), soft_wrap=True)
    _footer(folder, record, console)


def candidates_table(selection: Mapping[str, Any], width: int) -> Table:
    """Return the table of candidates, the cheapest first; where it would be cut off, without what can be missed."""
    whole = _candidates_table(selection, narrow=False)
    fits = Console(width=10_000).measure(whole).maximum <= width
    return whole if fits else _candidates_table(selection, narrow=True)


def _candidates_table(selection: Mapping[str, Any], narrow: bool) -> Table:
    bar = selection["bar"]
    shown = {wide: short for wide, short in HEADINGS.items() if short or not narrow}
    answer = "request" if selection["traffic"] == "online" else "batch of 32"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0 if narrow else 1))
    table.add_column("candidate", no_wrap=True)
    table.add_column(f"{bar['metric'].replace('_', '-')} ({bar['confidence']:.0%})", no_wrap=True)
    for wide, short in shown.items():
        table.add_column(short if narrow else wide.format(answer=answer), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in sorted(selection["candidates"], key=lambda r: r.get("usd_per_million_requests", float("inf"))):
        figures = [figure for heading, figure in _figures(row).items() if heading in shown]
        table.add_row(row["candidate"], _quality(row), *figures, row["verdict"], style=STYLES[row["verdict"]])
    return table


def _quality(row: Mapping[str, Any]) -> str:
    metric = row.get("metric")
    return f"{metric['value']:.3f} ({metric['low']:.3f}-{metric['high']:.3f})" if metric else "-"


def _figures(row: Mapping[str, Any]) -> dict[str, str]:
    if row["verdict"] == "lost":
        return dict.fromkeys(HEADINGS, "-")
    figures = [
        f"{row['latency_ms']:.3g}",
        f"{row['requests_per_second']:,.0f}",
        size(row["bytes"]),
        money(row["usd_per_million_requests"]),
        money(row["usd_per_million_tokens"]),
    ]
    return dict(zip(HEADINGS, figures, strict=True))


def _reasons(selection: Mapping[str, Any], console: Console) -> None:
    for row in selection["candidates"]:
        if row["verdict"] != "chosen":
            console.print(
                Text(f"  {row['candidate']} {row['verdict']}: {_without_verdict(row)}", style="dim"), soft_wrap=True
            )
    console.print()


def _without_verdict(row: Mapping[str, Any]) -> str:
    return re.sub(r"^(missed the bar: |passed, but |passed )", "", row["reason"])


def _footer(folder: Path, record: Mapping[str, Any], console: Console) -> None:
    count = record["reused_steps"]
    reused = f"; {count} step{'s' * (count > 1)} reused from the cache" if count else ""
    console.print(Text(f"This run: {duration(record['seconds'])}, {money(record['usd'])}{reused}."))
    console.print()
    report = folder / "report.html"
    lines = [("report", str(report))] if report.is_file() else []
    lines.append(("log", str(folder / "kfp.log")))
    if record["status"] == "passed":
        name = record["arguments"].get("model_name", "")
        lines.append(("serve it", f"{_command('undercut')} serve {name}".strip()))
    lines.append(("MLflow", re.sub(r"^mlflow\b", _command("mlflow"), record["mlflow"])))
    for name, value in lines:
        console.print(f"  [dim]{name:<9}[/dim]{escape(value)}", soft_wrap=True, highlight=False)


def _command(name: str) -> str:
    """Return a command as this shell finds it: by name, or by the path beside this interpreter."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.is_file():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def show_failure(folder: Path, record: Mapping[str, Any], console: Console) -> None:
    """Print why a run failed: one message if the input was at fault, otherwise where to read on."""
    console.print(Text(record["failure"], style="red"), soft_wrap=True)
    if not record["expected"]:
        console.print(f"  [dim]log      [/dim]{escape(str(folder / 'kfp.log'))}", soft_wrap=True, highlight=False)
        console.print("  Finished steps and checkpoints are kept: the same command goes on from there.")
