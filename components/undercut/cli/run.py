"""Run a pipeline on this machine: KFP's local runner, the display, MLflow, and what remains of the run."""

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from undercut import costs, processes, registry, workspace
from undercut.cli import runs
from undercut.cli.display import Display
from undercut.cli.local_runtime import local_runner, own_output
from undercut.cli.pipeline_file import PipelineFile
from undercut.tracking import Tracker

if TYPE_CHECKING:
    from undercut.cli.docker_runtime import Containers

POLL_SECONDS = 0.1
INTERRUPTED = 130
MLFLOW_STATUS = {"passed": "FINISHED", "missed": "FINISHED", "finished": "FINISHED", "interrupted": "KILLED"}


@dataclass(kw_only=True)
class Outcome:
    """What a run left: its steps' outputs by step name, and the first failure."""

    outputs: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    failure: Mapping[str, Any] | None = None
    error: str = ""

    def output(self, step: str) -> Path | None:
        """Return the last output of a step, or None."""
        return next(reversed(self.outputs.get(step, [])), None)

    def selection(self) -> dict[str, Any] | None:
        """Return the choice, if the run came to one."""
        folder = self.output("select")
        found: dict[str, Any] | None = json.loads((folder / "selection.json").read_text("utf-8")) if folder else None
        return found

    def status(self) -> str:
        """Return ``passed``, ``missed``, ``finished`` (no choice in this pipeline) or ``failed``."""
        if self.error:
            return "failed"
        selection = self.selection()
        return "finished" if selection is None else "passed" if selection["passed"] else "missed"


class Tail:
    """Reads the run's event file in a thread of its own and hands each event on."""

    def __init__(self, path: Path, display: Display, tracker: Tracker, outcome: Outcome) -> None:
        self._path, self._display, self._tracker, self._outcome = path, display, tracker, outcome
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)

    def __enter__(self) -> "Tail":
        """Start to read."""
        self._path.touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read what is left, then stop."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            with self._path.open(encoding="utf-8") as stream:
                rest = ""
                while True:
                    last = self._stop.is_set()
                    *lines, rest = (rest + stream.read()).split("\n")
                    for line in lines:
                        self._handle(json.loads(line))
                    if last:
                        return
                    self._stop.wait(POLL_SECONDS)
        except Exception as error:  # handed to the thread that waits, which raises it
            self._error = error

    def _handle(self, event: dict[str, Any]) -> None:
        self._display.handle(event)
        self._tracker.handle(event)
        if event["type"] == "finished" and event["output"]:
            self._outcome.outputs[event["step"]].append(Path(event["output"]))
        if event["type"] == "failed" and self._outcome.failure is None:
            self._outcome.failure = event


def run_pipeline(
    pipeline: PipelineFile,
    arguments: Mapping[str, Any],
    recipe: Path | None,
    console: Console,
    containers: "Containers | None" = None,
) -> Path:
    """Run a pipeline with checked arguments and return the run's folder; ``run.json`` in it says how it ended.

    Args:
        pipeline: the loaded file.
        arguments: all of its arguments, URIs pinned.
        recipe: where they came from, for the record.
        console: the person's terminal.
        containers: where steps run; None for processes of this machine.

    Raises:
        ConfigurationError: the workspace cannot be written.
    """
    folder = runs.create(pipeline.name)
    _environment(folder)
    book = costs.parse_price_book(arguments.get("prices", {"devices": {costs.CPU_CORE: {"usd_per_hour": 0}}}))
    record = {
        "pipeline": str(pipeline.path),
        "recipe": str(recipe or ""),
        "arguments": dict(arguments),
        "started": time.time(),
        "status": "running",
        "process": processes.own(),
    }
    runs.write(folder, record)
    tags = {"pipeline": pipeline.name, "recipe": recipe.stem if recipe else "", "folder": str(folder)}

    def warn(text: str) -> None:
        console.print(Text(text, style="yellow"))

    tracker = Tracker(registry.EXPERIMENT, folder.name, arguments, book, tags, warn)
    tracker.start()
    record["mlflow_run"] = tracker.run_id or ""  # waits: every step inherits the id by its environment
    outcome = Outcome()
    display = Display(console, book, pipeline.steps(arguments))

    def interrupted() -> None:
        if containers:
            containers.stop()
        runs.write(folder, record | {"status": "interrupted", **_use(record, display, outcome, tracker)})
        tracker.finish(MLFLOW_STATUS["interrupted"])

    with display, Tail(folder / "events.jsonl", display, tracker, outcome), _interruptible(console, interrupted):
        _execute(pipeline, arguments, folder, display, tracker, outcome, containers)
    report = _keep_report(folder, outcome)
    status = outcome.status()
    kept = [path for path in (report, _selection_file(outcome)) if path]
    metrics = {"reused_steps": float(display.reused)}
    tracker.finish(MLFLOW_STATUS.get(status, "FAILED"), kept, metrics)
    runs.write(folder, record | {"status": status, **_use(record, display, outcome, tracker)})
    return folder


def _use(record: Mapping[str, Any], display: Display, outcome: Outcome, tracker: Tracker) -> dict[str, Any]:
    """Return what a run's record says beside its status."""
    return {
        "seconds": time.time() - record["started"],
        "usd": display.usd,
        "reused_steps": display.reused,
        "failure": _failure(outcome),
        "expected": bool(outcome.failure and outcome.failure["expected"]),
        "mlflow": tracker.url,
        "outputs": {step: [str(p) for p in paths] for step, paths in outcome.outputs.items()},
    }


def _failure(outcome: Outcome) -> str:
    """Return why the run failed: the step's own words, or KFP's where a step ended without a word."""
    if outcome.failure is not None:
        step = f"{outcome.failure['step']} {outcome.failure['detail']}".strip()
        return f"{step}: {outcome.failure['error']}"
    without_colours = re.sub(r"\x1b\[\d+m", "", outcome.error)
    return f"{without_colours} It ended without a word: out of memory, or killed?" if outcome.error else ""


@contextlib.contextmanager
def _interruptible(console: Console, finish: Callable[[], None]) -> Iterator[None]:
    """End at once on Ctrl-C: KFP would first start the steps that wait. The steps at work end with this process."""

    def stop(_signal: int, _frame: object) -> None:
        console.print("\nInterrupted. The same command goes on from here.")
        finish()
        console.show_cursor(True)
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _environment(folder: Path) -> None:
    """Tell the steps, which inherit it, where they report and whom they belong to."""
    os.environ["UNDERCUT_HOME"] = str(workspace.home())
    os.environ["UNDERCUT_EVENTS"] = str(folder / "events.jsonl")
    os.environ["UNDERCUT_RUN_PID"] = str(os.getpid())


def _execute(
    pipeline: PipelineFile,
    arguments: Mapping[str, Any],
    folder: Path,
    display: Display,
    tracker: Tracker,
    outcome: Outcome,
    containers: "Containers | None",
) -> None:
    def cached(step: str, detail: str, outputs: dict[str, str]) -> None:
        path = own_output(step, outputs)
        display.cached(step, detail)
        tracker.cached(step, detail, path)
        if path:
            outcome.outputs[step].append(Path(path))

    cache = workspace.home() / "cache" / (containers.cache if containers else workspace.code_digest()[:16])
    try:
        with local_runner(folder / "artifacts", cache, folder / "kfp.log", cached, containers):
            pipeline.pipeline(**arguments)
    except RuntimeError as error:  # KFP's word for a step that failed; the step itself has said why
        outcome.error = str(error)


def _selection_file(outcome: Outcome) -> Path | None:
    folder = outcome.output("select")
    return folder / "selection.json" if folder else None


def _keep_report(folder: Path, outcome: Outcome) -> Path | None:
    """Copy the report to where a person looks for it."""
    page = outcome.output("report")
    if page is None:
        return None
    target = folder / "report.html"
    target.write_bytes(page.read_bytes())
    return target
