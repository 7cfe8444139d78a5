"""One step of a pipeline: the frame that every component's work runs in.

The frame reports start, end and failure, measures what was used, writes the ledger into the output
artifact, dies with the run that started it, and turns a refused input into one line and exit code 2.
"""

import contextlib
import errno
import os
import select
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from undercut import artifacts, costs, events, pod_tracking
from undercut.errors import ConfigurationError
from undercut.failures import Marker
from undercut.interruption import Terminated

EXIT_CONFIGURATION = 2


def watch_parent() -> None:
    """End this process when the run named in ``UNDERCUT_RUN_PID`` ends, however it ends.

    The step is a grandchild of the run (KFP starts it through a shell), so the kernel's parent-death
    signal would watch the wrong process; a file descriptor of the run's process cannot miss it. In a
    container, where the run has no such number, its standard input ends with the run (``UNDERCUT_RUN_STDIN``).
    """
    pid = os.environ.get("UNDERCUT_RUN_PID")
    if not pid and os.environ.get("UNDERCUT_RUN_STDIN"):
        threading.Thread(target=_until_input_ends, name="watch-run", daemon=True).start()
    if not pid or not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(int(pid))
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="watch-run", daemon=True).start()


def _until_input_ends() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


@contextlib.contextmanager
def step(name: str, detail: str = "", inputs: Sequence[str] = (), output: str = "") -> Iterator[None]:
    """Run one step.

    Args:
        name: the stage, for example ``finetune``.
        detail: what tells this execution from others of the stage, for example ``linear``.
        inputs: paths of the input artifacts, whose ledgers the output carries on.
        output: path of the output artifact that receives the ledger.

    Raises:
        SystemExit: with code 2 where an input or setting was refused, by this attempt or an earlier one of
            the same run, or the disk is full; with code 143 where the process was asked to end.
    """
    watch_parent()
    if os.environ.get("UNDERCUT_RUN_ID"):  # in a pod: libraries would start a thread for each core of the node
        os.environ.setdefault("OMP_NUM_THREADS", str(costs.available_cores()))
    with pod_tracking.reporting(), _reported(name, detail, inputs, output):
        yield


@contextlib.contextmanager
def _reported(name: str, detail: str, inputs: Sequence[str], output: str) -> Iterator[None]:
    stopwatch = costs.Stopwatch(name, detail)
    events.begin(stopwatch.id, name, detail)
    events.emit("started", pid=os.getpid())
    marker = None
    try:
        marker = Marker.of(name, detail, output)
        if marker:
            marker.check()
        yield
    except ConfigurationError as error:
        events.emit("failed", error=str(error), expected=True, use=stopwatch.entry())
        print(f"{name}: {error}", file=sys.stderr)
        if marker:
            marker.write(error)
        raise SystemExit(EXIT_CONFIGURATION) from error
    except Terminated as stopped:
        events.emit("failed", error=stopped.reason, expected=True, use=stopwatch.entry())
        print(f"{name}: {stopped.reason}", file=sys.stderr)
        raise
    except BaseException as error:
        if not _disk_full(error):
            events.emit("failed", error=f"{type(error).__name__}: {error}", expected=False, use=stopwatch.entry())
            raise
        remedy = "Free space (undercut clean), or set UNDERCUT_HOME to a larger disk."
        events.emit("failed", error=f"no space left on the disk. {remedy}", expected=True, use=stopwatch.entry())
        print(f"{name}: {error}. {remedy}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from error
    entry = _record(stopwatch, [Path(p) for p in inputs], Path(output) if output else None)
    events.emit("finished", use=entry, output=output)


def _disk_full(error: BaseException) -> bool:
    """Tell a full disk by errno, or by the words of libraries that write in native code."""
    return (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in str(error)


def _record(stopwatch: costs.Stopwatch, inputs: list[Path], output: Path | None) -> costs.LedgerEntry:
    """Write the ledger (inputs' steps, this one) into the output's manifest."""
    name = artifacts.manifest_name(output) if output else None
    if output is None or name is None:
        return stopwatch.entry()
    manifest = artifacts.load(output, name)
    entry = stopwatch.entry(output_bytes=manifest["bytes"])
    known = [(path, artifacts.manifest_name(path)) for path in inputs]
    ledgers = [artifacts.load(path, manifest)["ledger"] for path, manifest in known if manifest]
    # What the output has already comes from inputs, or from pods that trained it elsewhere.
    manifest["ledger"] = costs.merge([*ledgers, manifest["ledger"], [entry]])
    artifacts.write_json(output / name, manifest)
    return entry
