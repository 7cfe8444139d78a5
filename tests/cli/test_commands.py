"""The commands beside ``run``: doctor, clean, report, recipes, serve without a model."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from undercut import processes, workspace
from undercut.cli import clean, runs
from undercut.cli.doctor import LACK, examine
from undercut.cli.main import app
from undercut.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def made_run(name: str, status: str = "finished", outputs: dict[str, list[str]] | None = None) -> Path:
    folder = workspace.home() / "runs" / name
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "weights").write_bytes(b"x" * 1000)
    record = {"pipeline": "p.py", "recipe": "", "arguments": {"source": "a.csv#sha256=" + "0" * 64}}
    record |= {"started": time.time(), "status": status, "seconds": 65.0, "usd": 0.001, "reused_steps": 0}
    record |= {"failure": "", "expected": False, "mlflow": "sqlite", "outputs": outputs or {}}
    runs.write(folder, record)
    return folder


def test_help_teaches() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for command in ("run", "compile", "submit", "schedule", "runs", "serve", "report", "recipes", "doctor", "clean"):
        assert re.search(rf"\b{command}\b", shown)


def test_a_pipelines_own_flags_are_in_its_help() -> None:
    shown = CliRunner().invoke(app, ["run", str(ROOT / "pipelines" / "lifecycle.py"), "--help"]).output
    assert "--dry-run" in shown
    assert "--finetune_settings" in shown
    assert "budget_usd (0 for no limit)" in " ".join(shown.split())


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    recipe = ROOT / "pipelines" / "recipes" / "customer_service.yaml"
    arguments = ["run", str(ROOT / "pipelines" / "lifecycle.py"), "--recipe", str(recipe), "--dry-run"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "nothing run" in done.output
    assert not workspace.home().exists()


def test_recipes_are_listed_with_what_they_are_for() -> None:
    shown = CliRunner().invoke(app, ["recipes", str(ROOT / "pipelines" / "recipes")]).output
    assert "customer_service.yaml" in shown
    assert "intents" in shown


def test_doctor_examines_this_machine() -> None:
    findings = {finding.subject: finding for finding in examine()}
    assert findings["Python"].found.startswith("3.11")
    assert findings["base model"].status == "ok"
    assert findings["MLflow"].status == "ok"
    assert all(f.remedy for f in findings.values() if f.status == LACK)


def test_runs_are_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    made_run("20260101-000000-a")
    made_run("20260101-000001-b", status="failed")
    shown = CliRunner().invoke(app, ["report", "--list"]).output
    assert "20260101-000001-b" in shown
    assert "1 min 05 s" in shown
    assert runs.find("").name == "20260101-000000-a", "the newest that ended well"
    assert runs.find("20260101-000001-b").name == "20260101-000001-b"
    with pytest.raises(ConfigurationError, match="20260101-000001-b"):
        runs.find("missing")


def test_a_run_whose_process_is_gone_was_killed() -> None:
    folder = made_run("20260101-000000-a", status="running")
    for process, status in ((processes.own(), "running"), (f"{os.getpid()} 1", "killed")):
        runs.write(folder, {**runs.read(folder), "status": "running", "process": process})
        assert runs.read(folder)["status"] == status


def test_clean_keeps_what_a_kept_run_took_from_the_cache() -> None:
    first = made_run("20260101-000000-a")
    middle = made_run("20260101-000001-b")
    made_run("20260101-000002-c", outputs={"ingest": [str(first / "artifacts" / "weights")]})
    current = workspace.home() / "cache" / workspace.code_digest()[:16]
    of_an_image = current.with_name(f"{current.name}-0123456789ab")
    for folder in (current, of_an_image):
        folder.mkdir(parents=True)
    (workspace.home() / "cache" / ("0" * 16)).mkdir(parents=True)
    names = {item.path.name for item in clean.removable(keep=1)}
    assert names == {middle.name, "0" * 16}
    done = CliRunner().invoke(app, ["clean", "--yes"])
    assert done.exit_code == 0, done.output
    assert not middle.exists()
    assert first.exists()
    assert current.exists()
    assert of_an_image.exists()
    assert CliRunner().invoke(app, ["clean"]).output.strip() == "Nothing to remove."
    everything = clean.removable(keep=0)
    assert {item.path.name for item in everything} == {
        *(first.name, "20260101-000002-c"),
        *(current.name, of_an_image.name),
    }


def test_clean_asks_first() -> None:
    old, _new = made_run("20260101-000000-a"), made_run("20260101-000001-b")
    done = CliRunner().invoke(app, ["clean"], input="n\n")
    assert "Nothing removed" in done.output
    assert old.exists()


def test_two_runs_in_one_second_have_folders_of_their_own() -> None:
    folders = {runs.create("lifecycle") for _ in range(3)}
    assert len(folders) == 3


def test_serve_without_a_run_says_what_to_do() -> None:
    done = CliRunner().invoke(app, ["serve"])
    assert isinstance(done.exception, ConfigurationError)
    assert "Run a pipeline first" in str(done.exception)


def test_serve_after_a_run_that_registers_nothing_asks_for_a_name() -> None:
    made_run("20260101-000000-pretrain")
    done = CliRunner().invoke(app, ["serve"])
    assert isinstance(done.exception, ConfigurationError)
    assert "Name it: undercut serve NAME" in str(done.exception)


def test_a_run_record_is_json() -> None:
    folder = made_run("20260101-000000-a")
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
