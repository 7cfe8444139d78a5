"""The whole lifecycle, as a person runs it: in processes of their own, small data, a tiny base model."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from tests.conftest import clean_environment, small_rows

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "pipelines" / "lifecycle.py"
# The environment's secrets, which steps may use and must not repeat.
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "UNDERCUT_SQL_PASSWORD",
    "UNDERCUT_KFP_TOKEN",
)
PLANTED = "planted-4f1d-secret"
UNDERCUT = [sys.executable, "-c", "from undercut.cli.main import main; main()"]


def undercut(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    secrets = {name: f"{PLANTED}-{name}" for name in SECRETS}
    environment = {**clean_environment(), **secrets, "UNDERCUT_HOME": str(home), "COLUMNS": "160"}
    return subprocess.run([*UNDERCUT, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> list[str]:
    source = tmp_path_factory.mktemp("source") / "messages.csv"
    with source.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        # Repeated words make distinct texts, enough of them for a training that can be interrupted.
        writer.writerows([(f"{text} {'very ' * n}", label) for n in range(1, 5) for text, label in small_rows()])
    # fmt: off
    return [
        "run", str(PIPELINE), "--source", str(source), "--base-model", str(tiny_base),
        "--finetune_settings.epochs", "4", "--finetune_settings.learning_rate", "0.003",
        "--bar.minimum", "0.5", "--bar.maximum_drop", "0.5",
        "--candidates", "finetuned/as-is,finetuned/int8,linear/as-is,linear-teacher/as-is", "--model-name", "small",
    ]
    # fmt: on


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> Path:
    home = tmp_path_factory.mktemp("lifecycle") / "home"
    done = undercut(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (home.parent / "stdout.txt").write_text(done.stdout)
    return home


def newest_run(home: Path) -> Path:
    return max((home / "runs").iterdir(), key=lambda p: p.stat().st_mtime)


def teacher_weights(home: Path) -> dict[str, np.ndarray]:
    (folder,) = {p.parent for p in (home / "runs").rglob("finetune/model/model.json")}
    return load_file(folder / "model.safetensors")


def test_it_compiles_with_descriptions_and_defaults(tmp_path: Path) -> None:
    target = tmp_path / "lifecycle.yaml"
    done = undercut(tmp_path / "home", "compile", str(PIPELINE), "-o", str(target))
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all(target.read_text()))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert len(inputs) <= 20
    assert inputs["finetune_settings"]["defaultValue"]["epochs"] == 6
    assert all(definition.get("description") for definition in inputs.values())
    assert spec["pipelineInfo"]["description"].startswith("Turn labelled text into the cheapest")
    defaults = spec["components"]["comp-finetune"]["inputDefinitions"]["parameters"]
    assert defaults["batch_tokens"]["defaultValue"] == 1024


@pytest.mark.slow
def test_it_ends_with_a_choice_and_the_proof(finished: Path) -> None:
    shown = (finished.parent / "stdout.txt").read_text()
    run = newest_run(finished)
    record = json.loads((run / "run.json").read_text())
    for words in ("linear-teacher/as-is", "per million", "report.html", "undercut serve"):
        assert words in shown
    assert "Traceback" not in shown
    assert record["status"] == "passed"
    assert "<svg" in (run / "report.html").read_text()
    (selection,) = (json.loads(p.read_text()) for p in run.rglob("select/selection/selection.json"))
    assert selection["passed"]
    assert selection["chosen"].startswith("linear")
    assert {c["candidate"]: c["verdict"] for c in selection["candidates"]}["finetuned/as-is"] == "passed"
    prices = {c["candidate"]: c["usd_per_million_requests"] for c in selection["candidates"]}
    assert prices["linear/as-is"] < prices["finetuned/as-is"]


@pytest.mark.slow
def test_a_planted_secret_is_written_nowhere(finished: Path) -> None:
    """Not in the output, the logs, the artifacts, the report, MLflow's store, nor the compiled pipeline."""
    done = undercut(finished.parent / "other", "compile", str(PIPELINE), "-o", str(finished.parent / "compiled.yaml"))
    assert done.returncode == 0
    files = [path for path in finished.parent.rglob("*") if path.is_file()]
    assert {"mlflow.db", "kfp.log", "events.jsonl", "report.html", "compiled.yaml"} <= {path.name for path in files}
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_mlflow_has_a_run_with_a_child_for_each_step_and_the_champion(finished: Path) -> None:
    code = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
print(len(parents), sorted({r.info.run_name.split(" ")[0] for r in children}))
(tune,) = [r for r in children if r.info.run_name.startswith("finetune")]
print(len(client.get_metric_history(tune.info.run_id, "train/loss")) > 3, tune.data.params["epochs"], tune.info.status)
print(client.get_model_version_by_alias("small", "champion").version)
"""
    command = [sys.executable, "-c", code, f"sqlite:///{finished / 'mlflow.db'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    steps = [
        "allocate",
        "check",
        "compress",
        "deploy",
        "evaluate",
        "finetune",
        "ingest",
        "pretrain",
        "profile",
        "quantize",
    ]
    assert lines == [f"1 {[*steps, 'report', 'select', 'transfer', 'tune']}", "True 4 FINISHED", "1"]


@pytest.mark.slow
def test_a_second_run_reuses_what_did_not_change_and_says_so(finished: Path, arguments: list[str]) -> None:
    done = undercut(finished, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reused from the cache" in done.stdout
    events = [json.loads(line) for line in (newest_run(finished) / "events.jsonl").read_text().splitlines()]
    assert {e["step"] for e in events if e["type"] == "started"} == {"deploy", "report"}
    code = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
print(sum("mlflow.parentRunId" not in r.data.tags for r in runs))
"""
    command = [sys.executable, "-c", code, f"sqlite:///{finished / 'mlflow.db'}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2"], "one parent run for each of the two runs"


def start(home: Path, arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a run and return when its fine-tuning is under way."""
    environment = {**clean_environment(), "UNDERCUT_HOME": str(home)}
    run = subprocess.Popen([*UNDERCUT, *arguments], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)

    def progress() -> int:
        found = list(home.glob("runs/*/events.jsonl"))
        lines = found[0].read_text().splitlines() if found else []
        return sum('"finetune"' in line and '"progress"' in line for line in lines)

    while progress() < 25:
        assert run.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    return run


@pytest.mark.slow
def test_interrupted_it_says_so_and_nothing_goes_on(arguments: list[str], tmp_path: Path) -> None:
    run = start(tmp_path / "home", arguments)
    steps = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGINT)
    shown, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Interrupted. The same command goes on from here." in shown
    assert json.loads((newest_run(tmp_path / "home") / "run.json").read_text())["status"] == "interrupted"
    assert psutil.wait_procs(steps, timeout=10)[1] == []


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_weights(
    finished: Path, arguments: list[str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    victim = start(home, arguments)
    ours = psutil.Process(victim.pid).children(recursive=True)
    assert ours
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    _gone, alive = psutil.wait_procs(ours, timeout=10)
    assert alive == []
    done = undercut(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    whole, resumed = teacher_weights(finished), teacher_weights(home)
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
