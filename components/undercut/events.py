"""What a step reports while it runs: one JSONL file of typed events, shared by all steps of a run.

``undercut run`` names the file in ``UNDERCUT_EVENTS`` and tails it for the progress display, the
ledger and MLflow. Without the variable (a component run alone, a test) events go nowhere; ``-`` writes
them to standard output, where a pod's log carries them.

Every event has ``time`` (seconds since the epoch), ``task`` (unique to one execution of a step),
``step``, ``detail`` and ``type``:

========== =====================================================================================
type       further keys
========== =====================================================================================
started    ``pid``
progress   ``done``, ``total`` (any unit), ``message``
metric     ``name``, ``value``, ``at`` (training step, epoch or None)
parameters ``parameters``: a flat mapping
message    ``message``: one line for the person watching
finished   ``use``: a ledger entry; ``output``: the artifact's path or empty
failed     ``error``: one message; ``expected``: True if the input was at fault, not the code
========== =====================================================================================
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping

_task: dict[str, str] = {}
_parts: list[tuple[int, int, str]] = []


def begin(task: str, step: str, detail: str) -> None:
    """Name the task that this process works on; later events carry the name."""
    _task.update(task=task, step=step, detail=detail)


def current() -> dict[str, str]:
    """Return what :func:`begin` was told, for a process that works on the same task; empty texts if nothing was."""
    return {"task": "", "step": "", "detail": "", **_task}


def emit(kind: str, **content: object) -> None:
    """Append one event; a line is written at once, so writers do not mix."""
    path = os.environ.get("UNDERCUT_EVENTS")
    if not path:
        return
    line = json.dumps({"time": time.time(), **_task, "type": kind, **content}, ensure_ascii=False, default=str)
    # Half a surrogate pair (a file name that is not UTF-8) becomes its escape, which JSON reads.
    data = line.encode(errors="backslashreplace") + b"\n"
    if path == "-":
        os.write(1, data)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def part(index: int, count: int, name: str) -> Iterator[None]:
    """Report what happens inside as part ``index`` (from 0) of ``count`` of the step.

    Progress counts parts, and metrics are called ``name.metric``, so that the trainings of a step that
    trains many times stay apart.
    """
    _parts.append((index, count, name))
    try:
        yield
    finally:
        _parts.pop()


def progress(done: float, total: float, message: str = "") -> None:
    """Report how far the step is; the unit is the step's own."""
    for index, count, name in reversed(_parts):
        done, total, message = index + done / max(total, 1), count, f"{name}: {message}"
    emit("progress", done=done, total=total, message=message)


def metric(name: str, value: float, at: int | None = None) -> None:
    """Report a number of a curve (``at`` = its position) or a result (``at`` = None)."""
    emit("metric", name=".".join([*(part_name for _, _, part_name in _parts), name]), value=value, at=at)


def parameters(values: Mapping[str, object]) -> None:
    """Report the settings that the step works with."""
    emit("parameters", parameters=dict(values))


def message(text: str) -> None:
    """Tell the person watching one thing worth knowing."""
    emit("message", message=text)
