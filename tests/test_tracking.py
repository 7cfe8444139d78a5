"""Events into a real MLflow: on SQLite, on a server, and with a server that is not there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, registry, workspace
from undercut.costs import Stopwatch, parse_price_book
from undercut.mlflow_runs import flat
from undercut.tracking import Tracker

BOOK = parse_price_book({"devices": {"cpu-core": {"usd_per_hour": 0.36}}})
ARGUMENTS = {"source": "shop.csv", "bar": {"metric": "accuracy", "minimum": 0.9}, "candidates": ["linear/as-is"]}


def event(kind: str, step: str, detail: str = "", after: float = 0.0, **content: object) -> dict[str, Any]:
    return {
        "type": kind,
        "time": 1_700_000_000 + after,
        "task": f"{step}-{detail}",
        "step": step,
        "detail": detail,
        **content,
    }


def use(step: str, detail: str = "", **changes: object) -> dict[str, Any]:
    return {**Stopwatch(step, detail).entry(), "seconds": 100.0, "cores": 2, "cpu_seconds": 150.0, **changes}


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    artifacts.seal(
        folder, artifacts.MODEL, {"parameter_count": 7, "metrics": {"accuracy": 0.9, "curve": [1]}, "method": "m"}
    )
    return folder


def runs(experiment: str = "shop") -> dict[str, Any]:
    client = registry.connect()
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def play(tracker: Tracker, folder: Path) -> None:
    """A run with a step of each kind."""
    tracker.handle(event("started", "finetune", pid=1))
    tracker.handle(event("parameters", "finetune", parameters={"epochs": 3, "labels": ["a", "b"]}))
    tracker.handle(event("progress", "finetune", done=1, total=2, message=""))
    for i in range(1200):
        tracker.handle(
            event("metric", "finetune", name="train.loss", value=2.0 - i / 1000, at=i) | {"time": 1_700_000_000 + i}
        )
    tracker.handle(event("message", "finetune", message="epoch 3 chosen"))
    tracker.handle(event("finished", "finetune", after=5.0, use=use("finetune"), output=str(folder)))
    tracker.cached("evaluate", "linear/as-is", str(folder))
    tracker.handle(event("started", "quantize", "finetuned/int8", pid=2))
    tracker.handle(
        event("failed", "quantize", "finetuned/int8", error="OSError: broken", expected=False, use=use("quantize"))
    )
    tracker.handle(event("started", "profile", pid=3))


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    row = {"candidate": "linear/as-is", "metric": {"value": 0.91, "low": 0.9, "high": 0.92}, "latency_ms": 0.16}
    rows = [
        {**row, "usd_per_million_requests": 0.0123, "verdict": "chosen", "reason": ""},
        {"candidate": "finetuned/int8", "verdict": "lost", "reason": "too different"},
    ]
    content = {"sentence": "Linear is cheapest.", "bar": {"metric": "macro_f1", "confidence": 0.95}, "candidates": rows}
    artifacts.seal(folder, artifacts.SELECTION, content)
    return folder / artifacts.SELECTION


@dataclass
class Finished:
    """A run played to its end on SQLite."""

    run_id: str
    runs: dict[str, Any]
    curve: list[Any]
    stored: list[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, selection: Path) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(folder / "home"))
        for name in ("MLFLOW_TRACKING_URI", registry.RUN_VARIABLE):
            patch.setenv(name, "")
        tracker = Tracker("shop", "monday", ARGUMENTS, BOOK, tags={"recipe": "shop.yaml"}, warn=pytest.fail)
        started = time.monotonic()
        tracker.start()
        assert time.monotonic() - started < 0.1
        play(tracker, model_folder(folder / "model"))
        (folder / "report.html").write_text("<html>")
        tracker.finish("FAILED", [folder / "report.html", selection], {"accuracy": 0.91})
        assert os.environ[registry.RUN_VARIABLE] == tracker.run_id
        assert tracker.url == (
            f"mlflow ui --workers 1 --backend-store-uri sqlite:///{workspace.home()}/mlflow.db"
            f"  then  http://127.0.0.1:5000/#/experiments/1/runs/{tracker.run_id}?workflowType=machine_learning"
        )
        found, run_id = runs(), str(tracker.run_id)
        curve = registry.connect().get_metric_history(found["finetune"].info.run_id, "train/loss")
        stored = sorted(p.name for p in (workspace.home() / "mlartifacts" / run_id / "artifacts").iterdir())
        yield Finished(run_id, found, curve, stored)


def test_the_parent_has_the_arguments_the_result_and_the_artifacts(finished: Finished) -> None:
    parent = finished.runs["monday"]
    assert (parent.info.run_id, parent.info.status) == (finished.run_id, "FAILED")
    assert parent.data.params == {
        "source": "shop.csv",
        "bar.metric": "accuracy",
        "bar.minimum": "0.9",
        "candidates": '["linear/as-is"]',
    }
    assert parent.data.tags["recipe"] == "shop.yaml"
    assert parent.data.tags["code_digest"] == workspace.code_digest()[:12]
    assert parent.data.metrics == {"accuracy": 0.91, "ledger/seconds": 200.0, "ledger/usd": pytest.approx(0.04)}
    assert parent.data.tags["mlflow.note.content"].splitlines() == [
        "**quantize finetuned/int8 failed**: OSError: broken",
        "",
        "Linear is cheapest.",
        "",
        "| candidate | macro f1 (95% interval) | latency | price per million requests | verdict |",
        "|---|---|---|---|---|",
        "| **linear/as-is** | **0.910 (0.900 to 0.920)** | **0.16 ms** | **$0.0123** | **chosen** |",
        "| finetuned/int8 | | | | lost: too different |",
    ]
    assert finished.stored == ["report.html", "selection.json"]


def test_every_step_is_a_child(finished: Finished) -> None:
    children = {name: run for name, run in finished.runs.items() if name != "monday"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {finished.run_id}
    assert {name: run.info.status for name, run in children.items()} == {
        "finetune": "FINISHED",
        "evaluate · linear/as-is": "FINISHED",
        "quantize · finetuned/int8": "FAILED",
        "profile": "KILLED",
    }
    assert children["quantize · finetuned/int8"].data.tags["error"] == "OSError: broken"


def test_a_step_has_its_curves_parameters_and_ledger(finished: Finished) -> None:
    run = finished.runs["finetune"]
    assert [(m.step, round(m.value, 3)) for m in finished.curve][::600] == [(0, 2.0), (600, 1.4)]
    assert len(finished.curve) == 1200
    assert run.info.end_time - run.info.start_time == 5000
    assert run.data.params == {"epochs": "3", "labels": '["a", "b"]'}
    ledger = {"ledger/seconds": 100.0, "ledger/cpu_seconds": 150.0, "ledger/usd": 0.02}
    wanted = {**ledger, "accuracy": 0.9, "parameter_count": 7}
    assert {name: run.data.metrics[name] for name in wanted} == pytest.approx(wanted)
    assert run.data.tags["mlflow.note.content"] == "epoch 3 chosen"
    assert run.data.tags["cached"] == "false"
    assert len(run.data.tags["digest"]) == 64


def test_a_cached_step_has_figures_and_no_duration(finished: Finished) -> None:
    run = finished.runs["evaluate · linear/as-is"]
    assert run.data.tags["cached"] == "true"
    assert run.info.start_time == run.info.end_time
    assert run.data.metrics["accuracy"] == 0.9
    assert not [name for name in run.data.metrics if name.startswith("ledger")]


def test_an_accelerator_without_a_price_is_noted() -> None:
    tracker = Tracker("shop", "monday", {}, BOOK)
    tracker.start()
    tracker.handle(event("finished", "finetune", use=use("finetune", gpus=1, accelerator="h200"), output=""))
    tracker.finish("FINISHED")
    run = runs()["finetune"]
    assert "prices.devices: got 'h200'" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["ledger/gpu_seconds"] == 100.0
    assert "ledger/usd" not in run.data.metrics


def test_runs_of_a_killed_process_are_closed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from undercut.costs import parse_price_book; from undercut.tracking import Tracker\n"
        "t = Tracker('shop', 'killed', {}, parse_price_book({'devices': {'cpu-core': {'usd_per_hour': 1}}}))\n"
        "t.start(); print(t.run_id, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        killed = other.stdout.readline().strip()
        other.send_signal(signal.SIGKILL)
    tracker = Tracker("shop", "next", {}, BOOK)
    tracker.start()
    tracker.finish("FINISHED")
    assert runs()["killed"].info.run_id == killed
    assert runs()["killed"].info.status == "KILLED"


def test_a_server_that_is_not_there_is_one_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    tracker = Tracker("shop", "monday", ARGUMENTS, BOOK, warn=warnings.append)
    tracker.start()
    play(tracker, model_folder(tmp_path / "model"))
    assert tracker.run_id is None
    started = time.monotonic()
    tracker.finish("FINISHED")
    assert time.monotonic() - started < 10
    assert warnings == [
        "MLflow (http://me:…@127.0.0.1:9): it does not answer. The run goes on; its events stay in events.jsonl."
    ]


def test_a_server_that_never_answers_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undercut.tracking.FINISH_SECONDS", 0.5)
    warnings: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracker = Tracker("shop", "monday", {}, BOOK, warn=warnings.append)
        started = time.monotonic()
        tracker.start()
        tracker.handle(event("started", "finetune", pid=1))
        tracker.finish("FINISHED")
        assert time.monotonic() - started < 3
    assert len(warnings) == 1


def test_settings_are_flattened() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}}


@pytest.mark.slow
def test_events_wait_for_a_server_that_starts_late(
    mlflow_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, selection: Path
) -> None:
    """The server is still starting when the run begins: one warning, and everything arrives."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setattr("undercut.tracking.RETRY_SECONDS", 1.0)
    warnings: list[str] = []
    tracker = Tracker("shop", "monday", ARGUMENTS, BOOK, warn=warnings.append)
    tracker.start()
    play(tracker, model_folder(tmp_path / "model"))
    deadline = time.monotonic() + 60
    while tracker.run_id is None and time.monotonic() < deadline:
        time.sleep(0.2)
    tracker.finish("FINISHED", [selection], {"accuracy": 0.91})
    assert len(warnings) <= 1
    assert tracker.url == f"{mlflow_server}/#/experiments/1/runs/{tracker.run_id}?workflowType=machine_learning"
    found = runs()
    assert len(found) == 5
    assert found["monday"].info.status == "FINISHED"
    client = registry.connect()
    assert len(client.get_metric_history(found["finetune"].info.run_id, "train/loss")) == 1200
    path = client.download_artifacts(str(tracker.run_id), "selection.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["sentence"] == "Linear is cheapest."
