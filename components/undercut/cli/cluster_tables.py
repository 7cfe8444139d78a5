"""Tables of what is on a cluster: runs, a run's tasks, schedules."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from undercut.cluster.connection import Client
from undercut.cluster.following import moment, tasks
from undercut.cluster.schedules import Schedule
from undercut.wording import duration

STYLES = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red", "RUNNING": "bold"}


def runs_listing(client: Client, runs: Sequence[Any]) -> Iterator[RenderableType]:
    """Yield the runs as a table, in the order given, and where their pages are."""
    table = _table("id", "run", "state", "started", "took")
    for run in runs:
        state = str(run.state or "PENDING")
        began, ended = moment(run.created_at), moment(run.finished_at)
        link = client.run_link(run.run_id)
        shown = Text(str(run.run_id), style=f"link {link}" if link else "")
        table.add_row(shown, run.display_name, _state(state), _when(began), _took(began, ended))
    yield table if runs else Text("No runs.")
    if runs and client.run_link(""):
        yield Text(f"A run's page is {client.run_link('')} and its id.")


def run_details(client: Client, run: Any) -> Iterator[RenderableType]:
    """Yield what there is to say of one run: its state, its tasks, the errors that KFP knows, its page."""
    state = str(run.state or "PENDING")
    began, ended = moment(run.created_at), moment(run.finished_at)
    yield Text.assemble(
        (str(run.display_name), "bold"), "  ", _state(state), f"  {_when(began)}  {_took(began, ended)}"
    )
    found = tasks(run)
    table = _table("task", "state", "started", "took")
    for task in found:
        table.add_row(task.name, _state(task.state), _when(task.started), _took(task.started, task.ended))
    if found:
        yield table
    failed = [task for task in found if task.state == "FAILED"]
    for task in failed:
        if task.error:
            yield Text(f"{task.name}: {task.error}", style="red")
    if run.error and run.error.message:
        yield Text(str(run.error.message), style="red")
    if failed and not any(task.error for task in failed):
        yield Text("KFP's API does not say why: the task's log is on the run's page.")
    yield Text(client.run_link(run.run_id) or f"id {run.run_id}")


def schedules_table(schedules: Sequence[Schedule]) -> Table:
    """Return the schedules, in the order given."""
    table = _table("schedule", "when", "state", "set on", "set by")
    for schedule in schedules:
        state = Text("enabled", style="green") if schedule.enabled else Text("paused", style="yellow")
        by = "undercut" if schedule.digest else "someone else"
        table.add_row(schedule.name, schedule.when, state, _when(schedule.created), by)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("id", "task"), overflow="fold")
    return table


def _state(state: str) -> Text:
    return Text(state.lower(), style=STYLES.get(state, "dim"))


def _when(value: datetime.datetime | None) -> str:
    return value.astimezone().strftime("%Y-%m-%d %H:%M") if value else ""


def _took(began: datetime.datetime | None, ended: datetime.datetime | None) -> str:
    return duration((ended - began).total_seconds()) if began and ended else ""
