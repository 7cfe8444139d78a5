"""One pipeline run in MLflow: events become child runs, curves, parameters, ledger figures and notes.

Only the low-level client is used: the fluent one keeps an active run per thread and ends it by itself.
"""

import json
import re
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from undercut import artifacts, processes, registry, workspace
from undercut.costs import LedgerEntry, PriceBook
from undercut.errors import ConfigurationError
from undercut.mlflow_content import outcome, selection_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Event = dict[str, Any]

METRICS_PER_CALL = 500
TEXT_LIMIT = 5000  # MLflow's own limits: 6,000 characters a parameter, 8,000 a tag
PROCESS_TAG = "mlflow.undercut.process"  # MLflow's page hides tags of this prefix
NOTE_TAG = "mlflow.note.content"


class Runs:
    """The parent run and its children; creating it creates the parent, unless ``run_id`` names one.

    ``step_run`` is a run of someone else's that stands for the one step that is written; it is not ended here.
    Without a price book nothing is priced. Methods raise MLflow's exceptions and may be called again with the
    same event.
    """

    def __init__(
        self,
        client: "MlflowClient",
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        price_book: PriceBook | None,
        *,
        run_id: str = "",
        step_run: str = "",
    ) -> None:
        self.client, self._price_book, self._step_run = client, price_book, step_run
        self.experiment = "" if step_run else registry.experiment_id(client, experiment)
        code = {"code_digest": workspace.code_digest()[:12]}
        self.run_id = run_id or step_run or self._create(name, time.time(), {**code, **tags})
        self._children: dict[str, str] = {}
        self._open: set[str] = set()
        self._pending: dict[str, list[Metric]] = defaultdict(list)
        self._notes: dict[str, list[str]] = defaultdict(list)
        self._total = {"seconds": 0.0, "usd": 0.0}

    def _create(self, name: str, at: float, tags: Mapping[str, str]) -> str:
        own = {"mlflow.user": psutil.Process().username(), "mlflow.source.name": "undercut run"}
        own |= {"mlflow.source.type": "LOCAL", PROCESS_TAG: f"{socket.gethostname()} {processes.own()}"}
        run = self.client.create_run(self.experiment, int(at * 1000), {**own, **_texts(tags)}, run_name=name)
        return str(run.info.run_id)

    def write(self, event: Event, arguments: Mapping[str, Any]) -> None:
        """Write one event; metrics wait for :meth:`flush`."""
        match event["type"]:
            case "begin":
                self._log(self.run_id, parameters=flat(arguments))
                self._close_abandoned()
            case "end":
                self._end(event)
            case "started":
                self._child(event)
            case "metric":
                self._metric(self._child(event), event["name"], event["value"], event["time"], event["at"] or 0)
            case "parameters":
                self._log(self._child(event), parameters=flat(event["parameters"]))
            case "message":
                self._note(self._child(event), event["message"])
            case "finished" | "failed" | "cached":
                self._end_child(event)

    def _child(self, event: Event) -> str:
        """Return the child run of the event's task; create it at the task's first event."""
        task = event["task"]
        if self._step_run:
            return self._step_run
        if task not in self._children:
            name = " · ".join(part for part in (event["step"], event["detail"]) if part)
            tags = {"mlflow.parentRunId": self.run_id, "step": event["step"], "detail": event["detail"]}
            self._children[task] = self._create(name, event["time"], tags)
            self._open.add(self._children[task])
        return self._children[task]

    def _end_child(self, event: Event) -> None:
        run = self._child(event)
        tags: dict[str, object] = {"cached": event["type"] == "cached"}
        if event["type"] == "failed":
            tags["error"] = event["error"]
            self._note(self.run_id, f"**{event['step']} {event['detail']} failed**: {event['error']}")
        if "use" in event:
            self._ledger(run, event["use"], event["time"])
        if event.get("output"):
            figures, facts = outcome(Path(event["output"]))
            tags |= facts
            for name, value in figures.items():
                self._metric(run, name, value, event["time"])
        self._log(run, tags=tags)
        self.flush()
        self._terminate(run, "FAILED" if event["type"] == "failed" else "FINISHED", event["time"])

    def _ledger(self, run: str, use: LedgerEntry, at: float) -> None:
        figures: dict[str, float | None] = {
            "seconds": use["seconds"],
            "cpu_seconds": use["cpu_seconds"],
            "gpu_seconds": use["seconds"] * use["gpus"] or None,
            "peak_memory_bytes": use["peak_memory_bytes"],
            "output_bytes": use["output_bytes"],
            "energy_joules": use["energy_joules"],
        }
        try:
            figures["usd"] = self._price_book.cost_usd(use) if self._price_book else None
        except ConfigurationError as error:  # the price book does not know this accelerator
            self._note(run, str(error))
        for name, value in figures.items():
            if value is not None:
                self._metric(run, f"ledger.{name}", value, at)
        for name in self._total:
            self._total[name] += figures.get(name) or 0.0

    def _end(self, event: Event) -> None:
        for run in sorted(self._open):
            self._terminate(run, "KILLED", event["time"])
        totals = {f"ledger.{name}": value for name, value in self._total.items()}
        for name, value in {**totals, **event["metrics"]}.items():
            self._metric(self.run_id, name, value, event["time"])
        self.flush()
        self._terminate(self.run_id, event["status"], event["time"])
        for path in event["artifacts"]:
            if path.name == artifacts.SELECTION:
                self._note(self.run_id, selection_text(json.loads(path.read_text(encoding="utf-8"))))
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self.client.log_artifact(self.run_id, str(path))

    def _terminate(self, run: str, status: str, at: float) -> None:
        if run != self._step_run:
            self.client.set_terminated(run, status, int(at * 1000))
        self._open.discard(run)

    def _note(self, run: str, text: str) -> None:
        """Add to a run's description, which its page shows first."""
        if text not in self._notes[run]:
            self._notes[run].append(text)
        self._log(run, tags={NOTE_TAG: "\n\n".join(self._notes[run])})

    def _metric(self, run: str, name: str, value: float, at: float, position: int = 0) -> None:
        from mlflow.entities import Metric

        key = re.sub(r"[^\w.\-/ :]", "_", name).replace(".", "/", 1)  # MLflow's page groups by the slash
        self._pending[run].append(Metric(key, float(value), int(at * 1000), int(position)))

    def flush(self) -> None:
        """Send the metrics that wait."""
        for run, waiting in self._pending.items():
            while waiting:
                self.client.log_batch(run, metrics=waiting[:METRICS_PER_CALL])
                del waiting[:METRICS_PER_CALL]

    def _log(
        self, run: str, parameters: Mapping[str, object] | None = None, tags: Mapping[str, object] | None = None
    ) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run,
            params=[Param(k, v) for k, v in _texts(parameters or {}).items()],
            tags=[RunTag(k, v) for k, v in _texts(tags or {}).items()],
        )

    def _close_abandoned(self) -> None:
        """Mark runs as killed whose process on this machine was killed before it could do so itself."""
        for run in self.client.search_runs([self.experiment], "attributes.status = 'RUNNING'"):
            host, _, process = run.data.tags.get(PROCESS_TAG, "").partition(" ")
            if host == socket.gethostname() and not processes.alive(process):
                self.client.set_terminated(run.info.run_id, "KILLED")


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    texts = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for k, v in values.items()}
    return {k: v if len(v) <= TEXT_LIMIT else f"{v[:TEXT_LIMIT]}…" for k, v in texts.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings as ``bar.minimum``; lists stay whole."""
    result: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result
