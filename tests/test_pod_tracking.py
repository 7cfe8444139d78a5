"""Steps as pods run them: no ``undercut run`` beside them, an MLflow server named by the environment."""

from pathlib import Path

import pytest
from undercut import artifacts, events, pod_tracking, registry
from undercut.errors import ConfigurationError
from undercut.steps import step


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("UNDERCUT_RUN_ID", "0a1b2c3d-kfp")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return uri


def one_step(folder: Path, name: str) -> None:
    with step(name, output=str(folder / name)):
        events.metric("train.loss", 0.5, at=1)
        events.parameters({"epochs": 3})
        events.message("a label\u2028of two lines\x85")
        (folder / name).mkdir()
        artifacts.seal(folder / name, artifacts.MODEL, {"metrics": {"accuracy": 0.9}})


def test_steps_of_one_kfp_run_share_a_parent(tmp_path: Path, store: str) -> None:
    one_step(tmp_path, "ingest")
    one_step(tmp_path, "finetune")
    client = registry.connect()
    runs = client.search_runs([registry.experiment_id(client, registry.EXPERIMENT)])
    (parent,) = (run for run in runs if "kfp.run_id" in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.run_name for run in children} == {"ingest", "finetune"}
    assert len(runs) == 3
    assert all(run.info.status == "FINISHED" for run in runs)
    assert children[0].data.metrics["accuracy"] == 0.9
    assert children[0].data.params["epochs"] == "3"
    assert pod_tracking.shared_run(client) == parent.info.run_id
    assert "ledger/usd" not in children[0].data.metrics
    assert children[0].data.metrics["ledger/seconds"] >= 0


def test_a_failed_step_marks_the_parent(tmp_path: Path, store: str) -> None:
    with pytest.raises(SystemExit), step("ingest"):
        raise ConfigurationError("source", "x.csv", "a file that exists")
    one_step(tmp_path, "check")
    client = registry.connect()
    runs = client.search_runs([registry.experiment_id(client, registry.EXPERIMENT)])
    (parent,) = (run for run in runs if "kfp.run_id" in run.data.tags)
    assert parent.info.status == "FAILED"
    assert "x.csv" in parent.data.tags["mlflow.note.content"]
    one_step(tmp_path, "ingest")  # the retry
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_run_that_the_platform_made_is_joined(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = registry.connect()
    given = client.create_run(client.create_experiment("the platform's"), run_name="finetune").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    one_step(tmp_path, "finetune")
    run = client.get_run(given)
    assert pod_tracking.shared_run(client) == given
    assert (run.data.metrics["accuracy"], run.data.params["epochs"], run.info.status) == (0.9, "3", "RUNNING")
    assert client.get_experiment_by_name(registry.EXPERIMENT) is None


def test_a_server_that_is_away_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCUT_RUN_ID", "kfp")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hidden@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    one_step(tmp_path, "ingest")
    said = capsys.readouterr().err
    assert "The step goes on" in said
    assert "hidden" not in said
    assert artifacts.verify(tmp_path / "ingest", artifacts.MODEL)["ledger"][0]["step"] == "ingest"
