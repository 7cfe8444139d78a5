"""Whole deployments to a cluster: a fake API over HTTP, real pods' processes, a real S3 server and MLflow."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, registry
from undercut.deploy.inference_service import MODEL_LABEL
from undercut.deploy.readiness import NotReadyError
from undercut.errors import ConfigurationError

from tests.deploy.conftest import write_selection
from tests.deploy.kserve_cluster import Cluster, Object, Pod

Deploy = Callable[..., dict[str, Any]]
KSERVE = {
    "target": "kserve",
    "canary_seconds": 1,
    "ready_seconds": 90,
    "load_check_seconds": 1,
    "load_check_clients": 4,
    "maximum_p95_ms": 5000.0,
}


def aliases() -> dict[str, str]:
    client = registry.connect()
    found = {alias: registry.by_alias(client, "shop", alias) for alias in ("champion", "challenger")}
    return {alias: version.number for alias, version in found.items() if version}


def serves(live: Object | None) -> str:
    """Return the digest of the model that the service has alone."""
    assert live is not None
    assert "canary" not in live["spec"]
    assert "undercut/predictor-before" not in live["metadata"]["annotations"]
    label, uri = live["spec"]["predictor"]["labels"][MODEL_LABEL], live["spec"]["predictor"]["model"]["storageUri"]
    digest = uri.rstrip("/").rpartition("/")[2]
    assert digest.startswith(label)
    return str(digest)


def digest(model: Path) -> str:
    return str(artifacts.load(model, artifacts.MODEL)["digest"])


@pytest.fixture
def worse(tmp_path: Path, small_data: Path, make_linear_model: Callable[..., Path]) -> Path:
    """A model that saw ten rows."""
    return make_linear_model(tmp_path / "worse", small_data, rows=10)


@pytest.mark.slow
def test_the_first_deployment(cluster: Cluster, deployed: Deploy, linear_model: Path, bucket: Any) -> None:
    record = deployed(linear_model, **KSERVE)
    assert (record["target"], record["champion"], aliases()) == ("kserve", True, {"champion": "1"})
    kserve = record["kserve"]
    assert (kserve["how"], kserve["split"], kserve["rollback"]) == ("first deployment", None, "")
    assert kserve["smoke_test"]["rows"] == 20
    assert kserve["load_check"]["errors"] == 0
    assert kserve["load_check"]["requests"] > 4
    assert kserve["release"].endswith(f"/shop/{digest(linear_model)}/")
    assert serves(cluster.live()) == digest(linear_model)
    prefix = kserve["release"].removeprefix("s3://data/")
    found = bucket.list_objects_v2(Bucket="data", Prefix=prefix)["Contents"]
    files = artifacts.load(linear_model, artifacts.MODEL)["files"]
    assert {e["Key"].removeprefix(prefix) for e in found} == {*files, "model.json"}
    again = deployed(linear_model, **{**KSERVE, "min_replicas": 3})  # settings come with the next model
    assert (again["champion"], again["kserve"]["how"]) == (False, "it serves this model already")
    assert len(cluster.api.writes) == 2  # it is made, and marked as tested


@pytest.mark.resilience
def test_a_better_challenger_is_a_canary_and_then_serves(
    cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path
) -> None:
    deployed(worse, **KSERVE)
    record = deployed(linear_model, **KSERVE)
    assert (record["champion"], record["kserve"]["how"]) == (True, "promoted from canary")
    split = {"wished": 50.0, "attained": 50.0, "replicas": 1, "stable": 1, "minimum": 2}
    assert record["kserve"]["split"] == split
    assert aliases() == {"champion": "2"}
    assert serves(cluster.live()) == digest(linear_model)
    shares = [[c["trafficPercent"] for c in write["spec"].get("canary", [])] for write in cluster.api.writes]
    assert shares == [[], [], [0], [50], []]
    stable = [write["spec"]["predictor"]["model"]["storageUri"].split("/")[-2] for write in cluster.api.writes]
    assert stable == [digest(worse)] * 4 + [digest(linear_model)]
    worse_again = deployed(worse, **KSERVE)
    assert (worse_again["champion"], worse_again["kserve"], len(cluster.api.writes)) == (False, None, 5)


def refused(cluster: Cluster, deployed: Deploy, worse: Path, model: Path, **settings: Any) -> str:
    """Deploy ``model`` over ``worse``; it must be taken back. Returns the reason."""
    deployed(worse, **KSERVE)
    record = deployed(model, **{**KSERVE, **settings})
    assert record["champion"] is False
    assert record["reason"].startswith(f"Rolled back: {record['kserve']['rollback']}. Against version 1: accuracy")
    assert serves(cluster.live()) == digest(worse)
    assert aliases() == {"champion": "1", "challenger": "2"}
    client = registry.connect()
    assert client.get_model_version("shop", "2").tags["promotion"] == record["reason"]
    shares = [[c["trafficPercent"] for c in write["spec"].get("canary", [])] for write in cluster.api.writes]
    assert shares == [[], [], [0], []]
    return str(record["kserve"]["rollback"])


# The server, with a model that errs or dawdles.
SPOILT = """
import sys, time
from undercut import linear
from undercut.serving.__main__ import main
right = linear.LinearModel.probabilities
linear.LinearModel.probabilities = lambda self, texts: ANSWER
sys.exit(main(sys.argv[1:]))
"""
WRONG, SLOW = "right(self, texts)[:, ::-1]", "(time.sleep(0.3), right(self, texts))[1]"


def spoil(answer: str) -> Callable[[Cluster, Pod, Path], list[str] | None]:
    """Have canaries answer otherwise than the released model does."""

    def command(_: Cluster, pod: Pod, folder: Path) -> list[str] | None:
        if pod.service == "shop-predictor":
            return None
        return [sys.executable, "-c", SPOILT.replace("ANSWER", answer), "--model", str(folder), "--name", "shop"]

    return command


@pytest.mark.resilience
def test_wrong_answers_are_rolled_back(cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path) -> None:
    cluster.act = spoil(WRONG)
    assert "labels differ" in refused(cluster, deployed, worse, linear_model)


def other(model: Path) -> Callable[[Cluster, Pod, Path], None]:
    """Have canaries serve another folder than what was released."""

    def swap(_: Cluster, pod: Pod, folder: Path) -> None:
        if pod.service != "shop-predictor":
            shutil.rmtree(folder)
            shutil.copytree(model, folder)

    return swap


@pytest.mark.resilience
def test_slow_answers_are_rolled_back(cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path) -> None:
    cluster.act = spoil(SLOW)
    reason = refused(cluster, deployed, worse, linear_model, maximum_p95_ms=250.0)
    assert reason.startswith("the 95th percentile of the latency is ")
    assert reason.endswith("250 ms are allowed")


def never(_: Cluster, pod: Pod, folder: Path) -> None:
    pod.waiting = "ImagePullBackOff"


@pytest.mark.resilience
def test_a_canary_that_never_is_ready_is_taken_back(
    cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path
) -> None:
    deployed(worse, **KSERVE)
    cluster.act = never
    words = r"shop was not ready within 3 s: pod shop-c.*, container kserve-container: ImagePullBackOff \(Back-off"
    with pytest.raises(NotReadyError, match=words):
        deployed(linear_model, **{**KSERVE, "ready_seconds": 3})
    assert serves(cluster.live()) == digest(worse)
    assert aliases() == {"champion": "1", "challenger": "2"}


@pytest.mark.resilience
def test_a_missing_permission_is_named(cluster: Cluster, deployed: Deploy, linear_model: Path) -> None:
    cluster.api.forbidden.add("create inferenceservices")
    allowed = "allowed: a service account that may create inferenceservices.serving.kserve.io in namespace team"
    with pytest.raises(ConfigurationError, match=rf"permission: got 'inf.*undercut-runner\" cannot create.*{allowed}"):
        deployed(linear_model, **KSERVE)
    assert aliases() == {"challenger": "1"}


KILLED = """
import json, sys
from pathlib import Path
from undercut.deploy.deployment import deploy
from undercut.deploy.settings import DeployConfig
*paths, settings = sys.argv[1:]
deploy(*map(Path, paths), DeployConfig(model_name="shop", **json.loads(settings)))
"""


@pytest.mark.resilience
def test_a_run_that_is_killed_is_carried_on(
    cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path, small_data: Path, tmp_path: Path
) -> None:
    deployed(worse, **KSERVE)
    cluster.act = never
    selection = write_selection(tmp_path / "killed-selection", linear_model)
    paths = [str(path) for path in (linear_model, selection, small_data, tmp_path / "killed")]
    command = [sys.executable, "-c", KILLED, *paths, json.dumps(KSERVE)]
    process = subprocess.Popen(command, env=dict(os.environ), start_new_session=True)
    deadline = time.monotonic() + 120
    while len(cluster.api.writes) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    live = cluster.live()
    assert live is not None
    assert len(live["spec"]["canary"]) == 1
    cluster.forget()
    record = deployed(linear_model, **KSERVE)
    assert (record["champion"], record["kserve"]["how"]) == (True, "promoted from canary")
    assert serves(cluster.live()) == digest(linear_model)
    assert aliases() == {"champion": "2"}


@pytest.mark.resilience
def test_knative_splits_by_request(cluster: Cluster, deployed: Deploy, linear_model: Path, worse: Path) -> None:
    """The way up, and the way back: at no share first, so that no request goes to the model that failed."""
    settings = {**KSERVE, "mode": "Knative", "canary_percent": 10}
    deployed(worse, **settings)
    cluster.act = other(worse)
    failed = deployed(linear_model, **settings)
    words = f"the answers are of model {digest(worse)[:12]}, not of {digest(linear_model)[:12]}"
    assert failed["kserve"]["rollback"] == words
    assert serves(cluster.live()) == digest(worse)
    cluster.act = lambda cluster, pod, folder: None
    record = deployed(linear_model, **settings)
    assert (record["champion"], record["kserve"]["how"]) == (True, "promoted from canary")
    assert record["kserve"]["split"]["attained"] == 10
    assert serves(cluster.live()) == digest(linear_model)
    written = [write["spec"]["predictor"] for write in cluster.api.writes]
    shares = [predictor.get("canaryTrafficPercent") for predictor in written]
    old, new = digest(worse), digest(linear_model)
    models = [predictor["model"]["storageUri"].split("/")[-2] for predictor in written]
    assert list(zip(models, shares, strict=True)) == [
        *[(old, None), (old, None), (new, 0), (old, 0), (old, None)],
        *[(new, 0), (new, 10), (new, None)],
    ]
