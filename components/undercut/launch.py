"""Where a training runs: in the step's own process, in several on this machine, or as a TrainJob on a cluster.

One process is the rule, and costs nothing. ``torchrun`` starts several where the step has several accelerators
(``accelerator_count``) or the user asks for them (``processes``). More than one node, or a spot node, which may
vanish and gives a step of Kubeflow Pipelines one second's notice, make a TrainJob.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from undercut import costs, events, trainings
from undercut.errors import ConfigurationError
from undercut.interruption import Terminated
from undercut.resources import Resources, parse_resources

# Structures that are made without a training that processes could share.
WHOLE = ("finetuned", "linear")


class Artifact(Protocol):
    """A KFP artifact: where it is on this machine, and where the others find it."""

    path: str
    uri: str


def launch(
    training: str,
    resources: Mapping[str, Any],
    inputs: Mapping[str, Artifact | None],
    outputs: Mapping[str, Artifact],
    **arguments: Any,
) -> None:
    """Run a training where ``resources`` say; it returns when the outputs are in their local folders.

    Args:
        training: one of :data:`undercut.trainings.TRAININGS`.
        resources: what a step may reserve (:class:`undercut.resources.Resources`).
        inputs: the function's arguments that are folders to read.
        outputs: those that are folders to write; the first is the one that gets the ledger.
        arguments: its other arguments.

    Raises:
        ConfigurationError: the training refuses its settings, or ``resources`` ask for what is not here.
        RuntimeError: a process of the training failed; the message has its last words.
    """
    wanted = parse_resources(resources)
    spot = os.environ.get("UNDERCUT_SPOT") == "1"
    whole = str(arguments.get("structure", "")).partition("-")[0] in WHOLE
    if not whole and (wanted.nodes > 1 or spot):
        from undercut.cluster.trainjob import run

        run(training, wanted, inputs, outputs, arguments)
    elif not whole and wanted.processes_per_node > 1:
        _run_here(training, wanted, inputs, outputs, arguments)
    else:
        folders = {name: Path(artifact.path) if artifact else None for name, artifact in {**inputs, **outputs}.items()}
        trainings.train(training, folders, arguments)


def describe(training: str, arguments: Mapping[str, Any], detail: str) -> dict[str, Any]:
    """Return what a worker must know beside where things are."""
    plain = {name: asdict(value) if name == "config" else value for name, value in arguments.items()}
    task = events.current()
    detail = ", ".join(part for part in (task["detail"], detail) if part)
    return {"training": training, "arguments": plain, "events": task, "detail": detail}


def take_report(report: Mapping[str, Any]) -> costs.LedgerEntry | None:
    """Return what the first process used; None if it left no report.

    Raises:
        ConfigurationError: an input or setting was refused.
    """
    if "refused" in report:
        raise ConfigurationError(**report["refused"])
    found: costs.LedgerEntry | None = report.get("use")
    return found


def _run_here(
    training: str,
    wanted: Resources,
    inputs: Mapping[str, Artifact | None],
    outputs: Mapping[str, Artifact],
    arguments: Mapping[str, Any],
) -> None:
    processes = wanted.processes_per_node
    events.message(f"{processes} processes train together")
    with tempfile.TemporaryDirectory(prefix="undercut-") as folder:
        report = Path(folder) / "report.json"
        content = {
            **describe(training, arguments, f"{processes} processes"),
            "inputs": {name: artifact.path if artifact else None for name, artifact in inputs.items()},
            "outputs": {name: artifact.path for name, artifact in outputs.items()},
            "report": str(report),
        }
        (Path(folder) / "worker.json").write_text(json.dumps(content), encoding="utf-8")
        code = _torchrun(Path(folder) / "worker.json", processes)
        use = take_report(json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {})
    if code:
        raise RuntimeError(f"{training}: a process of the training failed (exit code {code}); its words are above")
    assert use is not None, "a worker that ends well leaves a report"
    costs.charge_gpus(use["gpus"], use["accelerator"])


def _torchrun(worker: Path, processes: int) -> int:
    """Run the processes to their end and return the exit code; SIGTERM is handed on to them.

    Raises:
        Terminated: SIGTERM came, and they have ended.
    """
    share = max(1, costs.available_cores() // processes)
    # What is set may be meant for one process that has all cores.
    threads = min(share, int(os.environ.get("OMP_NUM_THREADS", share)))
    # The workers end with this process, however it ends.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "UNDERCUT_RUN_PID": str(os.getpid())}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    process = subprocess.Popen([*command, "--module", "undercut.worker", str(worker)], env=environment)
    told = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        process.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if told:
        raise Terminated("ended by request: its processes were told, and have ended")
    return code
