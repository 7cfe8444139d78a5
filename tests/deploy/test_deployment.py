"""Whole deployments: MLflow on SQLite, a real server process, real models."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pytest
import requests
from undercut import artifacts, registry, workspace
from undercut.deploy import smoke_test
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import SmokeTestError
from undercut.errors import ConfigurationError

Deploy = Callable[..., dict[str, Any]]


def aliases() -> dict[str, str]:
    client = registry.connect()
    found = {alias: registry.by_alias(client, "shop", alias) for alias in ("champion", "challenger")}
    return {alias: version.number for alias, version in found.items() if version}


@pytest.fixture
def worse(tmp_path: Path, small_data: Path, make_linear_model: Callable[..., Path]) -> Path:
    """A model that saw ten rows."""
    return make_linear_model(tmp_path / "worse", small_data, rows=10)


First = tuple[dict[str, Any], Path]


def test_the_first_deployment(first: First, linear_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, home = first
    monkeypatch.setenv("UNDERCUT_HOME", str(home))
    expected = {
        "model_name": "shop",
        "version": "1",
        "target": "local",
        "champion": True,
        "reason": "the first champion",
        "uri": "models:/shop@champion",
        "champion_before": None,
        "comparison": None,
        "tracking_uri": f"sqlite:///{home}/mlflow.db",
        "model": artifacts.load(linear_model, artifacts.MODEL)["digest"],
    }
    assert {key: record[key] for key in expected} == expected
    assert record["smoke_test"]["rows"] == 20
    assert aliases() == {"champion": "1"}


def test_it_reports_how_far_it_is(first: First) -> None:
    events = [json.loads(line) for line in (first[1] / "events.jsonl").read_text().splitlines()]
    steps = [(e["done"], e["message"]) for e in events if e["type"] == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == (8, "done")
    assert [e["message"] for e in events if e["type"] == "message"] == [
        "smoke test: 20 rows by V1 and V2 equal the model's own answers",
        "shop version 1: the first champion",
    ]


def test_what_the_registry_shows(first: First, linear_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(first[1]))
    client, model = registry.connect(), artifacts.load(linear_model, artifacts.MODEL)
    version = client.get_model_version_by_alias("shop", "champion")
    tags = dict(version.tags)
    assert re.fullmatch("[0-9a-f]{64}", tags.pop("reference"))  # of the version's reference folder
    assert tags == {
        "digest": model["digest"],
        "candidate": "linear/as-is",
        "accuracy": "0.910 (0.880 to 0.940)",
        "usd_per_million_requests": "0.0022",
        "latency_p50_ms": "0.157",
        "traffic": "online on cpu-core",
        "dataset": model["dataset"],
        "smoke_test": "passed, 20 rows",
        "promotion": "the first champion",
    }
    assert version.description.startswith("linear/as-is is the cheapest of 5 candidates")
    assert "| price | **$0.0022 per million requests (online traffic, cpu-core)** |" in version.description
    assert "| 3 labels | cancel, refund, track |" in version.description
    assert 'load_model("models:/shop@champion")' in client.get_registered_model("shop").description
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {m.key: m.value for m in logged.metrics or []}["accuracy_low"] == 0.88
    assert client.get_run(version.run_id).info.status == "FINISHED"


def test_mlflow_loads_the_champion(first: First, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("UNDERCUT_HOME", str(first[1]))
    mlflow.set_tracking_uri(workspace.tracking_uri())
    loaded = mlflow.pyfunc.load_model("models:/shop@champion")
    assert loaded.predict(["where is my refund", "has it shipped yet"]) == ["refund", "track"]


def test_nothing_stored_is_a_pickle(first: First) -> None:
    stored = [p for p in (first[1] / "mlartifacts").rglob("*") if p.is_file()]
    assert {p.suffix for p in stored} == {"", ".py", ".txt", ".yaml", ".json", ".safetensors"}
    assert [p for p in stored if p.suffix != ".safetensors" and "pickle" in p.read_text()] == []
    (requirements,) = [p for p in stored if p.name == "requirements.txt"]
    assert [line.partition("==")[0] for line in requirements.read_text().splitlines()] == [
        "mlflow",
        "undercut",
        "numpy",
        "safetensors",
    ]


def test_the_same_model_again_is_not_registered_again(
    first: First, deployed: Deploy, linear_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(first[1]))
    record = deployed(linear_model)
    assert (record["version"], record["champion"]) == ("1", False)
    assert record["reason"] == "the champion already is this model: nothing to promote"
    assert len(registry.connect().search_model_versions("name = 'shop'")) == 1
    assert aliases() == {"champion": "1"}


@pytest.mark.slow
def test_a_worse_challenger_waits_and_a_better_one_is_promoted(
    deployed: Deploy, linear_model: Path, worse: Path
) -> None:
    deployed(worse)
    record = deployed(linear_model)
    assert record["champion"] is True
    assert record["champion_before"]["version"] == "1"
    assert record["comparison"]["difference"]["low"] > 0
    assert record["reason"].startswith("Against version 1: accuracy +0.")
    assert record["reason"].endswith(": significantly better.")
    assert aliases() == {"champion": "2"}
    record = deployed(worse)
    assert (record["version"], record["champion"]) == ("1", False)
    assert "not shown to be within 0.01 of it" in record["reason"]
    assert aliases() == {"champion": "2", "challenger": "1"}


@pytest.mark.slow
def test_new_labels_are_named(
    deployed: Deploy, linear_model: Path, tmp_path: Path, small_data: Path, make_linear_model: Callable[..., Path]
) -> None:
    deployed(make_linear_model(tmp_path / "old", small_data, labels=["cancel", "complaint", "track"]))
    record = deployed(linear_model)
    assert record["champion"] is True
    assert "the challenger adds refund and drops complaint; a test row whose label" in record["reason"]


@pytest.mark.slow
def test_another_tasks_champion_is_not_replaced(
    deployed: Deploy, linear_model: Path, tmp_path: Path, small_data: Path, make_linear_model: Callable[..., Path]
) -> None:
    deployed(make_linear_model(tmp_path / "other", small_data, labels=["down", "flat", "up"]))
    with pytest.raises(ConfigurationError, match=r"model_name: got 'shop'; allowed: .*\(its labels are down, flat, up"):
        deployed(linear_model)
    assert len(registry.connect().search_model_versions("name = 'shop'")) == 1


def test_a_tampered_folder_is_refused(deployed: Deploy, linear_model: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(linear_model, tmp_path / "model")
    manifest = artifacts.load(copied, artifacts.MODEL)
    artifacts.write_json(copied / artifacts.MODEL, {**manifest, "labels": ["track", "refund", "cancel"]})
    with pytest.raises(ConfigurationError, match="its settings do not match its digest"):
        deployed(copied)
    with pytest.raises(ConfigurationError, match=r"selection\.passed"):
        deployed(linear_model, passed=False)
    assert not (workspace.home() / "mlflow.db").exists()


@pytest.mark.slow
def test_a_failed_smoke_test_leaves_the_champion(
    deployed: Deploy, linear_model: Path, worse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(worse)
    monkeypatch.setattr(smoke_test, "START_SECONDS", 0.0)
    with pytest.raises(SmokeTestError, match="not ready within 0 s"):
        deployed(linear_model)
    assert aliases() == {"champion": "1"}
    tags = registry.connect().get_model_version("shop", "2").tags
    assert tags["smoke_test"] == "failed: the server was not ready within 0 s"


@pytest.mark.slow
def test_it_joins_the_pipelines_run(deployed: Deploy, linear_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = registry.connect()
    run = client.create_run(registry.experiment_id(client, "nightly"), run_name="monday").info.run_id
    monkeypatch.setenv(registry.RUN_VARIABLE, run)
    deployed(linear_model)
    assert client.get_model_version("shop", "1").run_id == run
    assert client.get_run(run).info.status == "RUNNING"
    assert client.get_experiment_by_name(registry.EXPERIMENT) is None


@pytest.mark.slow
def test_through_a_server(
    mlflow_server: str, deployed: Deploy, linear_model: Path, worse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts travel through the server's proxy, both ways."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    wait_for(mlflow_server)
    deployed(worse)
    record = deployed(linear_model)
    assert (record["version"], record["champion"], record["tracking_uri"]) == ("2", True, mlflow_server)
    shutil.rmtree(workspace.home() / "models")
    folder, version = registry.champion_folder("shop")
    assert version.number == "2"
    assert artifacts.verify(folder, artifacts.MODEL)["digest"] == record["model"]
    assert not (workspace.home() / "mlflow.db").exists()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        time.sleep(0.2)
    raise TimeoutError(url)


def test_a_server_that_is_not_there(deployed: Deploy, linear_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(ConfigurationError, match=r"MLFLOW_TRACKING_URI: got 'http://127\.0\.0\.1:9'"):
        deployed(linear_model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name": "a/b"}, "model_name: got 'a/b'; allowed: letters, digits"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": "a", "target": "moon"}, "target: got 'moon'; allowed: local or kserve"),
        ({"model_name": "a", "margin": 1.0}, "margin: got 1.0"),
        ({"model_name": "a", "minimum_saving": -0.1}, "minimum_saving"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        DeployConfig(**settings)
    assert str(error.value).startswith(message)


def test_two_that_fetch_the_same_model_at_once(
    first: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second one finds the folder in its place when it has downloaded its own."""
    _, home = first
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    download, others = mlflow.artifacts.download_artifacts, []

    def slow(**given: Any) -> str:
        path = download(**given)
        if not others:
            others.append(None)
            others.append(registry.champion_folder("shop")[0])
        return path

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", slow)
    folder, version = registry.champion_folder("shop")
    assert folder == others[1]
    artifacts.verify(folder, artifacts.MODEL, version.digest)
    assert registry.champion_folder("shop")[0] == folder
