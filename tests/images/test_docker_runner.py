"""``undercut run --runner docker``: the lifecycle in containers, and how a run in containers ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from undercut.cli import docker_runtime
from undercut.images import TRAIN_IMAGE, USER

from tests.images.conftest import PIPELINE, UNDERCUT, environment, undercut

pytestmark = pytest.mark.container


def run_folder(home: Path) -> Path:
    return max((home / "runs").iterdir(), key=lambda path: path.stat().st_mtime)


def selection(home: Path) -> dict[str, Any]:
    (path,) = run_folder(home).rglob("select/selection/selection.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def metrics(home: Path) -> dict[str, Any]:
    """Return each candidate's quality: all numbers of its evaluation but those of time."""
    found = {}
    for path in run_folder(home).rglob("evaluate/evaluation/metrics.json"):
        content = json.loads(path.read_text())
        found[f"{content['structure']}/{content['precision']}"] = content["metrics"]
    return found


def test_it_chooses_as_on_the_laptop_with_equal_quality(homes: dict[str, Path]) -> None:
    laptop, containers = (selection(homes[runner]) for runner in ("process", "docker"))
    assert containers["chosen"] == laptop["chosen"] == "linear/as-is"
    assert len(metrics(homes["docker"])) == 2
    assert metrics(homes["docker"]) == metrics(homes["process"])
    prices = {c["candidate"]: c["usd_per_million_requests"] for c in containers["candidates"]}
    assert prices["finetuned/int8"] > 2 * prices["linear/as-is"], "no clear winner: the choice would be chance"


def test_display_report_record_and_registry_are_as_without_containers(homes: dict[str, Path]) -> None:
    laptop, containers = (json.loads((run_folder(home) / "run.json").read_text()) for home in homes.values())
    assert containers["status"] == laptop["status"] == "passed"
    assert {s: len(p) for s, p in containers["outputs"].items()} == {s: len(p) for s, p in laptop["outputs"].items()}
    shown = (homes["docker"].parent / "shown.txt").read_text()
    for words in ("linear/as-is", "per million", "report.html", "undercut serve"):
        assert words in shown
    assert "other code" not in shown
    assert "<svg" in (run_folder(homes["docker"]) / "report.html").read_text()
    code = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
print(sum("mlflow.parentRunId" not in r.data.tags for r in runs), client.get_model_version_by_alias("small", "champion").version)
"""
    command = [sys.executable, "-c", code, f"sqlite:///{homes['docker'] / 'mlflow.db'}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "1"]


def test_steps_were_not_root(homes: dict[str, Path]) -> None:
    expected = os.getuid() or USER
    assert {path.stat().st_uid for path in (run_folder(homes["docker"]) / "artifacts").rglob("*")} == {expected}


def test_a_second_run_takes_finished_steps_from_the_cache(homes: dict[str, Path], arguments: list[str]) -> None:
    done = undercut(homes["docker"], *arguments, "--runner", "docker")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reused from the cache" in done.stdout
    events = [json.loads(line) for line in (run_folder(homes["docker"]) / "events.jsonl").read_text().splitlines()]
    assert {e["step"] for e in events if e["type"] == "started"} == {"deploy", "report"}


@pytest.fixture
def started(
    tmp_path: Path, arguments: list[str], engine: docker.DockerClient
) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", Any]]]:
    """Start a long run; return its process and its container when the fine-tuning is at work."""
    home = tmp_path / "home"
    runs = []

    def start() -> tuple["subprocess.Popen[str]", Any]:
        command = [*UNDERCUT, "run", PIPELINE, *arguments, "--runner", "docker"]
        command += ["--finetune_settings.epochs", "500", "--finetune_settings.patience", "500"]
        runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(home)))
        end = time.monotonic() + 300
        while not any('"finetune"' in p.read_text() for p in home.glob("runs/*/events.jsonl")):
            assert runs[-1].poll() is None, "ended before it could be stopped"
            assert time.monotonic() < end
            time.sleep(0.2)
        (container,) = engine.containers.list(filters={"label": f"{docker_runtime.WORKSPACE}={home}"})
        return runs[-1], container

    yield start
    for run in runs:
        run.kill()
        run.wait()
    for container in engine.containers.list(all=True, filters={"label": f"{docker_runtime.WORKSPACE}={home}"}):
        container.remove(force=True)


def gone(engine: docker.DockerClient, container: Any, states: tuple[str, ...] = ()) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        left = [c for c in engine.containers.list(all=True) if c.id == container.id and c.status not in states]
        if not left:
            return True
        time.sleep(0.2)
    return False


def test_ctrl_c_ends_and_removes_the_container(
    started: Callable[[], tuple["subprocess.Popen[str]", Any]], engine: docker.DockerClient
) -> None:
    run, container = started()
    run.send_signal(signal.SIGINT)
    shown, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Interrupted. The same command goes on from here." in shown
    assert gone(engine, container)


def test_killed_it_takes_its_container_along(
    started: Callable[[], tuple["subprocess.Popen[str]", Any]], engine: docker.DockerClient
) -> None:
    run, container = started()
    run.kill()
    run.wait()
    assert gone(engine, container, ("exited",))


def containers(monkeypatch: pytest.MonkeyPatch, home: Path) -> docker_runtime.Containers:
    home.mkdir()
    monkeypatch.setenv("UNDERCUT_HOME", str(home))
    return docker_runtime.Containers([])


def test_a_step_that_fails_at_once_never_counts_as_success(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner = containers(monkeypatch, tmp_path / "home")
    volumes = {str(tmp_path / "home"): {"bind": str(tmp_path / "home"), "mode": "rw"}}
    codes = [runner.run(engine, TRAIN_IMAGE, ["sh", "-c", "exit 7"], volumes) for _ in range(20)]
    assert codes == [7] * 20
    assert runner.run(engine, TRAIN_IMAGE, ["true"], volumes) == 0


def test_only_named_variables_reach_a_step(
    engine: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "planted")
    monkeypatch.setenv("HF_TOKEN", "meant")
    runner = containers(monkeypatch, tmp_path / "home")
    volumes = {str(tmp_path / "home"): {"bind": str(tmp_path / "home"), "mode": "rw"}}
    assert runner.run(engine, TRAIN_IMAGE, ["env"], volumes) == 0
    shown = capsys.readouterr().out
    assert "HF_TOKEN=meant" in shown
    assert "planted" not in shown


def test_a_source_is_read_only(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("text,label\n")
    source.chmod(0o666)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "home"))
    runner = docker_runtime.Containers([f"{source}#sha256={'0' * 64}", "s3://bucket/key", ""])
    volumes = {str(tmp_path / "home"): {"bind": str(tmp_path / "home"), "mode": "rw"}}
    assert runner.run(engine, TRAIN_IMAGE, ["cat", str(source)], volumes) == 0
    assert runner.run(engine, TRAIN_IMAGE, ["sh", "-c", f"echo x >> {source}"], volumes) == 2
