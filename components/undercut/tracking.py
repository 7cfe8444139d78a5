"""A run's events to MLflow: one parent run a pipeline, one child run a step, cached steps included.

``undercut run`` hands every event of the run's JSONL file to :class:`Tracker`, which writes in a
thread of its own: MLflow's import takes seconds, and its server may be slow or gone. Neither holds
the run up or ends it. While the server is away events wait and are sent when it is back; what is not
sent when the run ends stays in the run's ``events.jsonl``.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from undercut import registry, workspace
from undercut.costs import PriceBook
from undercut.mlflow_runs import Event, Runs

CONNECT_SECONDS = 15.0
FINISH_SECONDS = 30.0
RETRY_SECONDS = 10.0
POLL_SECONDS = 1.0
VIEW = "workflowType=machine_learning"  # MLflow's page opens on its GenAI side otherwise
TRANSIENT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


class Tracker:
    """Writes one pipeline run to MLflow; every method returns at once but :meth:`finish`, which is bounded.

    Args:
        experiment: the experiment's name; made if there is none.
        run_name: the parent run's name.
        arguments: the pipeline's arguments, logged as parameters.
        price_book: what a step's use costs.
        tags: further tags of the parent run (recipe, source digest, …).
        warn: called with one line, once, if MLflow cannot be reached.
    """

    def __init__(
        self,
        experiment: str,
        run_name: str,
        arguments: Mapping[str, Any],
        price_book: PriceBook,
        tags: Mapping[str, str] | None = None,
        warn: Callable[[str], None] = _to_stderr,
    ) -> None:
        self._experiment, self._name = experiment, run_name
        self._arguments, self._price_book, self._tags = dict(arguments), price_book, dict(tags or {})
        self._warn, self._warned = warn, False
        self._queue: queue.Queue[Event] = queue.Queue()
        self._known, self._ending = threading.Event(), threading.Event()
        self._runs: Runs | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start the thread; the parent run exists a few seconds later."""
        os.environ.pop(registry.RUN_VARIABLE, None)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """Return the parent run's id, after waiting until it is known; None where MLflow does not answer.

        The id is also in the environment (``UNDERCUT_MLFLOW_RUN_ID``) of every step started after it is known.
        """
        self._known.wait(CONNECT_SECONDS)
        return self._runs.run_id if self._runs else None

    @property
    def url(self) -> str:
        """Return how to open the run's page: the server's address, or the command that serves the local store."""
        uri = registry.shown(workspace.tracking_uri())
        page = f"/#/experiments/{self._runs.experiment}/runs/{self._runs.run_id}?{VIEW}" if self._runs else ""
        if not registry.is_local(uri):
            return f"{uri.rstrip('/')}{page}"
        return f"mlflow ui --workers 1 --backend-store-uri {uri}  then  http://127.0.0.1:5000{page}"

    def handle(self, event: Event) -> None:
        """Take one event, as described in :mod:`undercut.events`."""
        self._queue.put(event)

    def cached(self, step: str, detail: str, output_path: str) -> None:
        """Take a step that was served from the cache: a child run without a duration."""
        task = f"cached-{step}-{detail}"
        self.handle(
            {"type": "cached", "time": time.time(), "task": task, "step": step, "detail": detail, "output": output_path}
        )

    def finish(self, status: str, artifacts: Sequence[Path] = (), metrics: Mapping[str, float] | None = None) -> None:
        """End the run; waits for MLflow at most ``FINISH_SECONDS``.

        Args:
            status: FINISHED, FAILED or KILLED.
            artifacts: files and folders to store; from ``selection.json`` the run's description is made.
            metrics: the run's final figures.
        """
        result = {"status": status, "artifacts": list(artifacts), "metrics": dict(metrics or {})}
        self.handle({"type": "end", "time": time.time(), **result})
        self._ending.set()
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._warn_once(f"it did not take everything within {FINISH_SECONDS:.0f} s")

    def _work(self) -> None:
        client = registry.connect()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        backlog: deque[Event] = deque([{"type": "begin"}])
        while True:
            last_attempt = self._ending.is_set()
            try:
                if self._runs is None:
                    self._runs = Runs(client, self._experiment, self._name, self._tags, self._price_book)
                    os.environ[registry.RUN_VARIABLE] = self._runs.run_id
                    self._known.set()
                backlog.extend(self._arrived())
                while backlog:
                    self._runs.write(backlog[0], self._arguments)
                    if backlog.popleft()["type"] == "end":
                        return
                self._runs.flush()
            except (MlflowException, SQLAlchemyError, OSError) as error:
                refused = getattr(error, "error_code", TRANSIENT[0]) not in TRANSIENT
                self._warn_once(str(error).splitlines()[0][:300] if refused else "it does not answer")
                self._known.set()
                if self._runs and backlog and refused:
                    if backlog.popleft()["type"] == "end":  # asking again would not help
                        return
                elif last_attempt:
                    return
                else:
                    self._ending.wait(RETRY_SECONDS)

    def _arrived(self) -> list[Event]:
        """Return what has arrived; waits a moment for the first event."""
        events = []
        with contextlib.suppress(queue.Empty):
            events.append(self._queue.get(timeout=POLL_SECONDS))
            while True:
                events.append(self._queue.get_nowait())
        return events

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            line = f"MLflow ({workspace.tracking_uri()}): {text}. The run goes on; its events stay in events.jsonl."
            self._warn(registry.shown(line))
        self._warned = True
