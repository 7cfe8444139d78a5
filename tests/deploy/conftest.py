"""Selections as ``select`` writes them, deployments of them, and a cluster to deploy to."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.candidates import candidate_name
from undercut.deploy.deployment import deploy
from undercut.deploy.settings import DeployConfig

from tests.deploy.kserve_cluster import NAMESPACE, Cluster, closed
from tests.seaweedfs import Weed, serving


def write_selection(folder: Path, model: Path, passed: bool = True) -> Path:
    """Seal a selection whose only candidate is ``model``."""
    folder.mkdir(parents=True)
    manifest = artifacts.load(model, artifacts.MODEL)
    name = candidate_name(manifest)
    row = {
        "candidate": name,
        "structure": manifest["structure"],
        "precision": manifest["precision"],
        "digest": manifest["digest"],
        "metric": {"value": 0.91, "low": 0.88, "high": 0.94},
        "accuracy": 0.91,
        "macro_f1": 0.9,
        "latency_ms": 0.157,
        "latency_p95_ms": 0.2,
        "requests_per_second": 6200.0,
        "bytes": manifest["bytes"],
        "peak_memory_bytes": 10**8,
        "usd_per_million_requests": 0.0022,
        "passed": passed,
        "verdict": "chosen" if passed else "missed",
        "reason": "",
    }
    content = {
        "passed": passed,
        "chosen": name if passed else "",
        "best": name,
        "bar": {"metric": "accuracy", "minimum": 0.85, "confidence": 0.95},
        "traffic": "online",
        "hardware": "cpu-core",
        "sentence": f"{name} is the cheapest of 5 candidates that pass the bar.",
        "tokens_per_request": 8.0,
        "candidates": [row],
        "hosted": [],
    }
    artifacts.seal(folder, artifacts.SELECTION, content)
    return folder


@pytest.fixture(scope="session")
def make_selection() -> Callable[..., Path]:
    """:func:`write_selection`."""
    return write_selection


def make_deploy(folder: Path, small_data: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that deploys a model folder under the name ``shop`` and returns ``deployment.json``."""
    count = iter(range(100))

    def run(model: Path, data: Path = small_data, passed: bool = True, **settings: Any) -> dict[str, Any]:
        number = next(count)
        selection = write_selection(folder / f"selection-{number}", model, passed)
        output = folder / f"deployment-{number}"
        deploy(model, selection, data, output, DeployConfig(**{"model_name": "shop", **settings}))
        return artifacts.verify(output, artifacts.DEPLOYMENT)

    return run


@pytest.fixture
def deployed(tmp_path: Path, small_data: Path) -> Callable[..., dict[str, Any]]:
    return make_deploy(tmp_path, small_data)


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, linear_model: Path
) -> tuple[dict[str, Any], Path]:
    """A deployment into an empty workspace, and the workspace's folder, with ``events.jsonl``."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(folder))
        patch.setenv("UNDERCUT_EVENTS", str(folder / "events.jsonl"))
        for name in ("MLFLOW_TRACKING_URI", "UNDERCUT_MLFLOW_RUN_ID"):
            patch.setenv(name, "")
        record = make_deploy(folder, small_data)(linear_model)
    return record, folder


@pytest.fixture(scope="session")
def inference_service_schema() -> Any:
    """The CRD's schema, closed; None where the folder beside the checkout is absent."""
    data = Path(os.environ.get("UNDERCUT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = data.parent / "schemas" / "InferenceService.serving.kserve.io.v1beta1.json"
    return closed(json.loads(path.read_text())) if path.is_file() else None


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def bucket(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an S3 server with the bucket ``data``, which the environment names."""
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    return weed.bucket("data")


@pytest.fixture
def cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bucket: Any,
    inference_service_schema: Any,
) -> Iterator[Cluster]:
    """A cluster with KServe and an S3 server, which this process reaches as a step's pod would."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    found = Cluster(folder, inference_service_schema)
    monkeypatch.setattr(socket, "getaddrinfo", found.resolve)
    monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig()))
    monkeypatch.setenv("UNDERCUT_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("UNDERCUT_RELEASES", f"s3://data/private/{tmp_path.name}/undercut/releases")
    yield found
    found.close()
