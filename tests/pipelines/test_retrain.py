"""Retraining as a schedule does it: the same command again and again, while the data change."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import clean_environment, small_rows

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "pipelines" / "retrain.py"
RECIPE = ROOT / "pipelines" / "recipes" / "retraining.yaml"
UNDERCUT = [sys.executable, "-c", "from undercut.cli.main import main; main()"]


def undercut(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**clean_environment(), "UNDERCUT_HOME": str(home), "COLUMNS": "160"}
    return subprocess.run([*UNDERCUT, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


def newest(home: Path) -> dict[str, Any]:
    run = max((home / "runs").iterdir(), key=lambda p: p.name)
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    return record


def test_it_compiles_and_ends_early_on_a_boolean(tmp_path: Path) -> None:
    target = tmp_path / "retrain.yaml"
    done = undercut(tmp_path / "home", "compile", str(PIPELINE), "-o", str(target), "--recipe", str(RECIPE))
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all(target.read_text()))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert len(inputs) <= 20
    assert all(definition.get("description") for definition in inputs.values())
    tasks = spec["root"]["dag"]["tasks"]
    assert {"allocate", "check", "ingest", "monitor"} < tasks.keys()
    assert len(tasks) == 5, "four cheap steps, and everything else behind one gate"
    assert tasks["ingest"]["cachingOptions"] == {}, "a schedule reads its sources again"
    assert tasks["monitor"]["cachingOptions"] == {}
    (gated,) = (name for name in tasks if name.startswith("condition"))
    branches = spec["components"][f"comp-{gated}"]["dag"]["tasks"]
    gate = "inputs.parameter_values['pipelinechannel--monitor-Output'] == true"
    trained, unchanged = (
        spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]
        for wanted in (gate, f"!({gate})")
        for task in branches.values()
        if task["triggerPolicy"]["condition"] == wanted
    )
    assert {"finetune", "select"} <= trained.keys()
    (page,) = unchanged.values()
    assert page["inputs"]["artifacts"].keys() == {"data", "monitoring"}


def test_a_wrong_setting_is_refused_before_anything_runs(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "messages.csv", small_rows()[:40])
    wrong = ("--monitor_settings.significance", "2")
    done = undercut(tmp_path / "home", "run", str(PIPELINE), "--source", str(source), *wrong)
    assert done.returncode == 2
    assert "monitor_settings.significance: got 2" in done.stderr
    assert not (tmp_path / "home" / "runs").exists()


@pytest.mark.resilience
def test_it_trains_then_waits_then_trains_on_drift_and_remembers_what_was_in_vain(
    tmp_path: Path, tiny_base: Path
) -> None:
    source, home = tmp_path / "messages.csv", tmp_path / "home"
    # fmt: off
    arguments = [
        "run", str(PIPELINE), "--source", str(source), "--base-model", str(tiny_base), "--model-name", "fresh",
        "--candidates", "linear-teacher,finetuned/int8", "--monitor_settings.minimum_new_rows", "100",
        "--finetune_settings.epochs", "4", "--finetune_settings.learning_rate", "0.003",
        "--finetune_settings.train_embeddings", "true", "--bar.minimum", "0.5", "--bar.maximum_drop", "0.5",
    ]
    # fmt: on
    write_rows(source, small_rows()[:400])
    first = undercut(home, *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "There is no champion 'fresh' yet." in first.stdout
    assert "Version 1: promoted. the first champion" in first.stdout
    assert len(newest(home)["outputs"]["compress"]) == 2

    second = undercut(home, *arguments)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Nothing changed: version 1, the champion, was made from this very dataset." in second.stdout
    record = newest(home)
    assert record["status"] == "finished"
    assert "Nothing to train for" in Path(record["outputs"]["report"][0]).read_text()
    assert sorted(record["outputs"]) == ["ingest", "monitor", "report"]

    write_rows(source, small_rows()[:440])
    third = undercut(home, *arguments)
    assert "40 of 440 labelled rows are new, fewer than the 100" in third.stdout, third.stdout + third.stderr
    assert "finetune" not in newest(home)["outputs"]

    new = [(f"{text} with the voucher", "refund") for text, label in small_rows() if label == "refund"][:60]
    write_rows(source, [*small_rows()[:400], *new])
    fourth = undercut(home, *arguments)
    assert fourth.returncode == 0, fourth.stdout + fourth.stderr
    assert "Drift: labels of refund" in fourth.stdout
    assert "goes on from the fine-tuned model of version 1" in fourth.stdout
    record = newest(home)
    (model,) = record["outputs"]["finetune"]
    manifest = json.loads((Path(model) / "model.json").read_text())
    assert manifest["base_model"]["uri"] == "models://fresh@1"
    assert len(record["outputs"]["compress"]) == 1, "the champion's own form alone"
    (deployment,) = record["outputs"]["deploy"]
    assert "Against version 1" in json.loads((Path(deployment) / "deployment.json").read_text())["reason"]

    fifth = undercut(home, *arguments)
    assert "Nothing changed" in fifth.stdout, fifth.stdout + fifth.stderr
    assert sorted(newest(home)["outputs"]) == ["ingest", "monitor", "report"]

    write_rows(source, [*small_rows()[:400], *new[:50]])
    strict = [*arguments, "--bar.minimum", "0.9999"]
    sixth = undercut(home, *strict)
    assert sixth.returncode == 0, sixth.stdout + sixth.stderr
    assert newest(home)["status"] == "missed"
    seventh = undercut(home, *strict)
    assert "Nothing changed since this very dataset was tried." in seventh.stdout, seventh.stdout + seventh.stderr
    assert sorted(newest(home)["outputs"]) == ["ingest", "monitor", "report"]
