"""Tables of the command line: a pipeline's arguments, past runs, what a machine lacks."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich import box
from rich.table import Table
from rich.text import Text

from undercut.cli import runs
from undercut.cli.doctor import HINT, LACK, OK, Finding
from undercut.cli.pipeline_file import TYPES, Input, PipelineFile
from undercut.storage import without_pin
from undercut.wording import duration, money


def inputs_text(pipeline: PipelineFile) -> Text:
    """Return a pipeline's arguments as flags, with types, defaults and descriptions."""
    text = Text.assemble((pipeline.name, "bold"), ": ", pipeline.description.replace("\n", " "), "\n")
    for item in pipeline.inputs.values():
        default = "required" if item.required else f"default: {_shown(item.default) or 'empty'}"
        text.append_text(Text.assemble("\n", (f"--{item.name}", "bold"), (f"  {TYPES[item.kind]}; {default}", "dim")))
        text.append(f"\n    {item.description}")
    return text


def arguments_table(inputs: Mapping[str, Input], arguments: Mapping[str, Any]) -> Table:
    """Return the arguments of a run; those that differ from the defaults stand out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("argument", no_wrap=True)
    table.add_column("value")
    for name, value in arguments.items():
        changed = value != inputs[name].default
        table.add_row(name, Text(_shown(value), style="bold" if changed else "dim"))
    return table


def runs_table() -> Table:
    """Return all runs, the newest first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "started", "status", "took", "cost", "recipe or source"):
        table.add_column(heading, no_wrap=heading == "run")
    for folder in runs.all_runs():
        record = runs.read(folder)
        started = datetime.datetime.fromtimestamp(record["started"]).strftime("%Y-%m-%d %H:%M")
        took, cost = (duration(record["seconds"]), money(record["usd"])) if "seconds" in record else ("", "")
        source = record["recipe"] or without_pin(str(record["arguments"].get("source", "")))
        table.add_row(folder.name, started, record["status"], took, cost, source)
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return what :func:`undercut.cli.doctor.examine` found, each with its remedy below."""
    marks = {OK: "[green]ok[/green]", HINT: "[yellow]hint[/yellow]", LACK: "[red]lacks[/red]"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    for finding in findings:
        remedy = Text(f"\n{finding.remedy}", style="yellow") if finding.remedy else Text()
        table.add_row(marks[finding.status], finding.subject, Text(finding.found).append_text(remedy))
    return table


def _shown(value: Any) -> str:
    """Return a value in a line: a candidate by its name, a mapping of tables by how many entries they have."""
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, str):
        return without_pin(value)
    if isinstance(value, dict) and all(isinstance(v, dict | list) for v in value.values()):
        return ", ".join(f"{len(entries)} {name}" for name, entries in value.items())
    if isinstance(value, list):
        return ", ".join(_item(item) for item in value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _item(item: Any) -> str:
    names = isinstance(item, dict) and all(isinstance(v, str) for v in item.values())
    return "/".join(item[key] for key in sorted(item, reverse=True)) if names else str(item)
