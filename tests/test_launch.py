"""Where a training runs, and what becomes of it: in this process, in two under torchrun, ended by SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, checkpoints, launch, trainings
from undercut.errors import ConfigurationError
from undercut.finetune.settings import FinetuneConfig

from tests.conftest import clean_environment
from tests.seaweedfs import keys, serving

ROOT = Path(__file__).parents[1]
# What a component's body does, run as a step of its own.
STEP = """
import json, sys
from undercut.steps import step
from undercut.launch import launch
from undercut.finetune.settings import FinetuneConfig

class Folder:
    def __init__(self, path):
        self.path = self.uri = path

data, base, output, processes, settings = sys.argv[1:]
with step("finetune", inputs=[data], output=output):
    values = {"learning_rate": 3e-3, "batch_tokens": 256, "refit": False, **json.loads(settings)}
    config = FinetuneConfig(base_model=base, **values)
    inputs, outputs = {"data": Folder(data), "made": None}, {"output": Folder(output), "adapter": Folder(output + "-a")}
    launch("finetune", {"processes": float(processes)}, inputs, outputs, config=config)
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = self.uri = str(path)


def start(data: Path, base: Path, output: Path, processes: int, environment: dict[str, str], **settings: Any) -> Any:
    arguments = [str(data), str(base), str(output), str(processes), json.dumps(settings)]
    everything = {**clean_environment(), "OMP_NUM_THREADS": "1", **environment}
    with output.with_suffix(".log").open("w") as log:
        return subprocess.Popen([sys.executable, "-c", STEP, *arguments], env=everything, stderr=log)


def read_events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_no_other_code_is_called() -> None:
    with pytest.raises(ConfigurationError, match=r"^training: got 'os:system'; allowed: one of finetune, pretrain"):
        trainings.train("os:system", {}, {})


@pytest.mark.parametrize(("resources", "spot"), [({"nodes": 2.0}, ""), ({}, "1")])
def test_a_trainjob_needs_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any], spot: str
) -> None:
    monkeypatch.setenv("UNDERCUT_SPOT", spot)
    monkeypatch.delenv("UNDERCUT_POD", raising=False)
    outputs = {"output": Folder(tmp_path / "model")}
    with pytest.raises(ConfigurationError, match=r"^resources.nodes: got 'no UNDERCUT_POD here'; allowed: 1 outside"):
        launch.launch("finetune", resources, {"data": Folder(tmp_path)}, outputs, config=FinetuneConfig())


def test_what_no_processes_can_share_is_made_in_this_one(tiny_teacher: Path, small_data: Path, tmp_path: Path) -> None:
    inputs = {"teacher": Folder(tiny_teacher), "data": Folder(small_data), "scratch": None}
    outputs = {"output": Folder(tmp_path / "model")}
    launch.launch("compress", {"nodes": 2}, inputs, outputs, structure="finetuned", seed=0)
    assert artifacts.load(tmp_path / "model", artifacts.MODEL)["structure"] == "finetuned"


@pytest.mark.slow
def test_a_step_of_two_processes_reports_and_pays_for_both(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    environment = {"UNDERCUT_EVENTS": str(tmp_path / "events"), "UNDERCUT_HOME": str(tmp_path / "home")}
    process = start(small_data, tiny_base, tmp_path / "model", 2, environment, epochs=2)
    assert process.wait(600) == 0, (tmp_path / "model.log").read_text()
    found = read_events(tmp_path / "events")
    assert len({event["task"] for event in found}) == 1
    assert [event["type"] for event in (found[0], found[-1])] == ["started", "finished"]
    points = [event for event in found if event["type"] == "metric" and event["name"] == "validation.loss"]
    assert [point["at"] for point in points] == [1, 2]
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    (entry,) = manifest["ledger"]
    assert entry["id"] == found[-1]["task"]
    # Two processes that import torch and train cannot have used less; the step's own process does neither.
    assert entry["cpu_seconds"] > 3
    assert manifest["metrics"]["curve"][-1]["validation_loss"] < manifest["metrics"]["curve"][0]["validation_loss"]
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


@pytest.mark.resilience
def test_a_refused_setting_is_one_line_of_the_step_itself(small_data: Path, tmp_path: Path) -> None:
    environment = {"UNDERCUT_EVENTS": str(tmp_path / "events"), "UNDERCUT_HOME": str(tmp_path / "home")}
    process = start(small_data, Path("/nowhere"), tmp_path / "model", 2, environment)
    assert process.wait(600) == 2, (tmp_path / "model.log").read_text()
    last = read_events(tmp_path / "events")[-1]
    assert (last["type"], last["expected"]) == ("failed", True)
    assert last["error"].startswith("base_model: got '/nowhere'; allowed: a file or folder that exists.")


@pytest.mark.resilience
def test_sigterm_leaves_a_stored_checkpoint_and_two_processes_resume(
    small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Killed by SIGTERM, then by SIGKILL, each time on an empty disk again: the model of an undisturbed training."""
    with serving(tmp_path / "weed") as weed:
        client = weed.bucket("store")
        environment = {**weed.environment, "UNDERCUT_CHECKPOINTS": "s3://store/checkpoints"}
        settings = {"epochs": 12, "patience": 12, "checkpoint_seconds": 1.0}
        whole = start(small_data, tiny_base, tmp_path / "whole", 2, {"UNDERCUT_HOME": str(tmp_path / "h0")}, **settings)
        assert whole.wait(600) == 0
        for attempt, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
            events = tmp_path / f"events{attempt}"
            home = {"UNDERCUT_HOME": str(tmp_path / f"home{attempt}"), "UNDERCUT_EVENTS": str(events)}
            process = start(small_data, tiny_base, tmp_path / "model", 2, {**environment, **home}, **settings)
            before = set(keys(client, "store"))
            while process.poll() is None:
                steps = [e["done"] for e in read_events(events) if e["type"] == "progress" and "loss" in e["message"]]
                stored = {k for k in keys(client, "store") if k.endswith("state.json")} - before
                if steps and steps[-1] > 20 * (attempt + 1) and (number == signal.SIGTERM or stored):
                    break
                time.sleep(0.05)
            process.send_signal(number)
            code = process.wait(60)
            assert code == (143 if number == signal.SIGTERM else -signal.SIGKILL), (tmp_path / "model.log").read_text()
            assert any(k.endswith("state.json") for k in keys(client, "store"))
        home = {"UNDERCUT_HOME": str(tmp_path / "last"), "UNDERCUT_EVENTS": str(tmp_path / "last-events")}
        process = start(small_data, tiny_base, tmp_path / "model", 2, {**environment, **home}, **settings)
        assert process.wait(600) == 0
        messages = [e["message"] for e in read_events(tmp_path / "last-events") if e["type"] == "message"]
        assert any(m.startswith("resumed at step") for m in messages)
        left = {k.rpartition("/")[0] for k in keys(client, "store", "checkpoints/") if "failures" not in k}
        assert len(left) == checkpoints.KEPT, "the last states stay in the store, no others"
    one, two = (artifacts.verify(tmp_path / name, artifacts.MODEL) for name in ("whole", "model"))
    assert two["files"]["model.safetensors"] == one["files"]["model.safetensors"]
    assert os.path.getsize(tmp_path / "model" / "model.safetensors") > 0
