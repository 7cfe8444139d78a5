"""What a run on a cluster is doing: its state, and its tasks' states.

KFP 2.17 gives a run's tasks as the nodes of its Argo workflow: beside each task its driver, its executor, and
the parts of loops. Those are left out here. A task in a loop appears once for each item, by the same name.
"""

import datetime
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from undercut.cluster.connection import Client
from undercut.cluster.refusals import Refusal

PATIENCE = 24  # polls without an answer, two minutes of them by default: a server that restarts is back sooner
BUSY = (408, 429)  # a proxy's words for "later"
SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One execution of a task."""

    name: str
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    error: str


def tasks(run: Any) -> list[Task]:
    """Return a run's tasks in the order in which they started."""
    details = (run.run_details.task_details if run.run_details else None) or []
    names = {str(detail.display_name) for detail in details}
    found = [
        Task(
            name=str(detail.display_name),
            state=str(detail.state or "PENDING"),
            started=moment(detail.start_time),
            ended=moment(detail.end_time),
            error=_error(detail),
        )
        for detail in details
        if _is_task(str(detail.display_name), names)
    ]
    latest = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    return sorted(found, key=lambda task: (task.started or latest, task.name))


def moment(value: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time; KFP answers 1970 for one that has not come."""
    return value if value is not None and value.timestamp() > 0 else None


def summary(run: Any) -> dict[str, str]:
    """Return each task's state by its name; of a task in a loop, how many are in each state."""
    states: dict[str, Counter[str]] = {}
    for task in tasks(run):
        states.setdefault(task.name, Counter())[task.state] += 1
    return {name: _counted(counts) for name, counts in states.items()}


def follow(client: Client, run_id: str, say: Callable[[str], None]) -> str:
    """Follow a run to its end and return its last state; one line for each change.

    Args:
        client: connected.
        run_id: the run.
        say: gets each line.

    Raises:
        Refusal: the cluster refuses, or does not answer :data:`PATIENCE` times in a row.
    """
    before: dict[str, str] = {}
    state, missed = "", 0
    while True:
        try:
            run = client.get_run(run_id)
        except Refusal as error:
            missed += 1
            if (0 < error.status < 500 and error.status not in BUSY) or missed > PATIENCE:
                raise
            if missed == 1:
                say(f"no answer, still asking: {error}")
        else:
            missed = 0
            now = summary(run)
            for name, counted in now.items():
                if before.get(name) != counted:
                    say(f"{name} {counted}")
            before = now
            if run.state and run.state != state:
                state = str(run.state)
                say(f"run {state.lower()}")
            if state in ENDED:
                return state
        time.sleep(client.settings.poll_seconds)


def _is_task(name: str, names: set[str]) -> bool:
    """Tell tasks from the rest: each has a driver beside it; the root and the parts of a loop are no tasks."""
    return f"{name}-driver" in names and name != "root" and not name.startswith("iteration-")


def _counted(counts: "Counter[str]") -> str:
    if counts.total() == 1:
        return next(iter(counts)).lower()
    return ", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items()))


def _error(detail: Any) -> str:
    """Return the task's error where KFP has one: its own, or the last in the task's history."""
    statuses = [detail, *reversed(detail.state_history or [])]
    return next((str(s.error.message) for s in statuses if s.error and s.error.message), "")
