"""Every stage of the lifecycle in one run: pretrain, transfer, tune, finetune, the candidates, the choice."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import clean_environment, small_rows

ROOT = Path(__file__).parents[2]
UNDERCUT = [sys.executable, "-c", "from undercut.cli.main import main; main()"]
SETTINGS = {
    "pretrain_settings": {"epochs": 4, "size": "tiny", "vocabulary_size": 400, "sequence_length": 32},
    "transfer_settings": {"epochs": 1, "max_steps": 10, "sequence_length": 32, "comparison_epochs": 1},
    "tune_settings": {"trials": 2, "train_rows": 200},
    "finetune_settings": {"epochs": 3, "learning_rate": 3e-3},
    "bar": {"minimum": 0.5, "maximum_drop": 0.5},
    "candidates": ["finetuned/as-is", "scratch/int8", "linear"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with (folder / "messages.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *small_rows()])
    notes = [f"{text}, and the clerk of shop {n} wrote it down." for n in range(4) for text, _ in small_rows(n)]
    (folder / "notes.txt").write_text("\n\n".join(notes))
    recipe = folder / "recipe.yaml"
    paths = {"source": "messages.csv", "unlabelled_source": "notes.txt", "base_model": str(tiny_base)}
    recipe.write_text(json.dumps({**paths, **SETTINGS, "model_name": "whole"}))
    environment = {**clean_environment(), "UNDERCUT_HOME": str(folder / "home"), "COLUMNS": "160"}
    command = [*UNDERCUT, "run", str(ROOT / "pipelines" / "lifecycle.py"), "--recipe", str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (folder / "home" / "runs").iterdir()
    return found


def manifest(run: Path, where: str) -> dict[str, Any]:
    (path,) = run.rglob(where)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.slow
def test_what_a_stage_made_is_what_the_next_one_took(run: Path) -> None:
    transferred = manifest(run, "transfer/model/model.json")
    tuning = manifest(run, "tune/tuning/tuning.json")
    teacher = manifest(run, "finetune/model/model.json")
    assert transferred["metrics"]["downstream"]["worth_it"] in (True, False)
    for made in (tuning["base_model"], teacher["base_model"]):
        assert made["digest"] == transferred["digest"]
        assert made["structure"] == "transferred"
    assert len(tuning["trials"]) == 2
    assert tuning["trials"][0]["parameters"]["epochs"] == 3, "the fine-tuning settings are the default to beat"
    best = tuning["hyperparameters"]
    assert {name: teacher["parameters"][name] for name in best} == best


@pytest.mark.slow
def test_every_stage_is_in_the_ledger_the_choice_and_the_report(run: Path) -> None:
    selection = manifest(run, "select/selection/selection.json")
    verdicts = {c["candidate"]: c["verdict"] for c in selection["candidates"]}
    assert set(verdicts) == {"finetuned/as-is", "scratch/int8", "linear/as-is"}
    assert selection["passed"]
    assert "lost" not in verdicts.values()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    stages = {e["step"] for e in events if e["type"] == "finished"}
    assert stages >= {"pretrain", "transfer", "tune", "finetune", "compress", "quantize", "deploy", "report"}
    ledger = manifest(run, "finetune/model/model.json")["ledger"]
    assert {entry["step"] for entry in ledger} >= {"ingest", "transfer", "tune", "finetune"}
    page = (run / "report.html").read_text()
    for words in ("transfer", "trials", "scratch"):
        assert words in page.lower()
    assert os.path.getsize(run / "report.html") < 3_000_000
