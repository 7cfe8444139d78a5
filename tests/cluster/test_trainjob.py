"""TrainJobs: the object against the closed schema and Trainer's own model, and its life against a real HTTP API."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes import client as kubernetes
from undercut import artifacts, events
from undercut.cluster import folders, kubernetes_api, trainjob, trainjob_log
from undercut.cluster.trainjob_body import body
from undercut.errors import ConfigurationError
from undercut.finetune.settings import FinetuneConfig
from undercut.resources import parse_resources

from tests.cluster.trainer import JOBS, NAMESPACE, PODS, Cluster, Trainer, now
from tests.conftest import clean_environment, small_rows, write_dataset
from tests.seaweedfs import Weed, keys, serving

ROOT = Path(__file__).parents[2]
STEP = {
    "UNDERCUT_POD": "pod-1",
    "UNDERCUT_POD_UID": "uid-1",
    "UNDERCUT_NAMESPACE": NAMESPACE,
    "UNDERCUT_RUN_ID": "0b5f3a9e-1111-2222-3333-444455556666",
    "UNDERCUT_NODE": "lifecycle-x.finetune",
    "UNDERCUT_IMAGE": "undercut-train-python:0.1.0",
    "UNDERCUT_CHECKPOINTS": "s3://mlpipeline/private/team-a/undercut/checkpoints",
    "AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000",
    "AWS_SECRET_ACCESS_KEY": "planted-secret",
}
RESOURCES = {
    "accelerator": "nvidia.com/gpu",
    "accelerator_count": 4.0,
    "cpu": "8",
    "memory": "32Gi",
    "nodes": 2.0,
    "node_selector": {"pool": "a100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


class Place:
    """An artifact as KFP hands it to a component: a local path and the URI in its store."""

    def __init__(self, path: Path, uri: str) -> None:
        self.path, self.uri = str(path), uri


def full_body(**changes: Any) -> dict[str, Any]:
    wanted = parse_resources({**RESOURCES, **changes})
    return body("undercut-finetune-1", "finetune", "s3://b/jobs/worker.json", wanted, STEP)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with objects that allow no field beside those they name."""
    schema = copy.deepcopy(schema)
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            if isinstance(part.get("properties"), dict) and not part.get("x-kubernetes-preserve-unknown-fields"):
                part.setdefault("additionalProperties", False)
            parts += part.values()
    return schema


@pytest.fixture(scope="module")
def schema(shared_data: Path) -> dict[str, Any]:
    path = shared_data.parent / "schemas" / "TrainJob.trainer.kubeflow.org.v1alpha1.json"
    if not path.is_file():
        pytest.skip(f"no schema at {path}")
    found = closed(json.loads(path.read_text()))
    found["properties"]["metadata"] = {"type": "object"}
    return found


def test_a_step_needs_no_kfp_for_it() -> None:
    code = "import sys; sys.modules['kfp'] = None; import undercut.cluster.trainjob"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_body_obeys_the_closed_schema(schema: dict[str, Any]) -> None:
    for wanted in (full_body(), full_body(node_selector={}, tolerations=[], accelerator="", accelerator_count=0)):
        jsonschema.Draft202012Validator(schema).validate(wanted)
    wrong = full_body()
    wrong["spec"]["trainer"]["numberOfNodes"] = 2
    with pytest.raises(jsonschema.ValidationError, match="numberOfNodes"):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_trainers_own_model_drops_nothing() -> None:
    sent = full_body()
    model = TrainerV1alpha1TrainJob.from_dict(sent)
    assert model is not None
    assert json.loads(json.dumps(model.to_dict(), default=str)) == sent


def test_the_body_is_what_was_asked_for() -> None:
    sent = full_body()
    spec, trainer = sent["spec"], sent["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    amounts = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
    assert spec["activeDeadlineSeconds"] == 48 * 3600
    (patch,) = spec["runtimePatches"]
    # Trainer 2.3's webhook asks for a domain and a path here, which the schema does not say.
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/._-]+", patch["manager"])
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["labels"]["pipeline/runid"] == STEP["UNDERCUT_RUN_ID"]
    assert pod["spec"] == {"nodeSelector": RESOURCES["node_selector"], "tolerations": RESOURCES["tolerations"]}
    assert "planted-secret" not in json.dumps(sent)
    (owner,) = sent["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "pod-1", "uid-1")


def test_a_name_is_the_same_on_a_retry_and_another_for_each_iteration() -> None:
    uri = "s3://mlpipeline/v2/artifacts/lifecycle/RUN/compress/1f/model/"
    first = trainjob.job_name("compress", "run-1", uri)
    assert first == trainjob.job_name("compress", "run-1", uri)
    assert (
        len({first, trainjob.job_name("compress", "run-2", uri), trainjob.job_name("compress", "run-1", uri + "2")})
        == 3
    )
    assert len(first) <= 63
    assert first.replace("-", "").isalnum()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    server = Cluster(tmp_path)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig()))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(trainjob, "POLL_SECONDS", 0.2)
    yield server
    server.close()


def job() -> trainjob.Job:
    return trainjob.Job("undercut-finetune-1", full_body())


def test_what_the_cluster_refuses_is_one_clear_line(cluster: Cluster) -> None:
    cluster.denied.add(("POST", "trainjobs"))
    with pytest.raises(ConfigurationError) as refused:
        job().create()
    assert str(refused.value) == (
        "TrainJob undercut-finetune-1: got '403 trainjobs.trainer.kubeflow.org is forbidden: User "
        '"undercut-runner" cannot create it\'; allowed: the right to create it. '
        "The run's ServiceAccount needs the permissions of manifests/runs."
    )


def test_a_retry_adopts_the_job_and_makes_it_its_own(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    first = job()
    assert not first.adopt()
    first.create()
    monkeypatch.setenv("UNDERCUT_POD_UID", "uid-2")
    again = trainjob.Job("undercut-finetune-1", {**full_body(), "metadata": {**full_body()["metadata"]}})
    again._body["metadata"]["ownerReferences"][0]["uid"] = "uid-2"
    assert again.adopt()
    (found,) = cluster.jobs()
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == ["uid-2"]
    cluster.set_status("undercut-finetune-1", "Complete")
    assert again.follow() == ""


def test_a_job_that_failed_before_is_made_anew_once_its_jobset_is_gone(cluster: Cluster) -> None:
    job().create()
    cluster.set_status("undercut-finetune-1", "Failed")
    again = job()
    assert not again.adopt()
    assert cluster.jobs() == []
    assert cluster.deletions == ["Foreground"]
    cluster.denied.add(("DELETE", "trainjobs"))
    job().create()
    cluster.set_status("undercut-finetune-1", "Failed")
    with pytest.raises(ConfigurationError, match="the right to delete it"):
        job().adopt()


def test_a_job_that_ends_with_its_pod_while_it_is_adopted_is_made_anew(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes collects it before the new pod owns it, or right after it has looked at the owner."""
    job().create()
    again = job()
    again._body["metadata"]["ownerReferences"][0]["uid"] = "uid-2"
    patch = again._api.patch_namespaced_custom_object

    def collected_first(**arguments: Any) -> Any:
        requests.delete(f"{cluster.url}{JOBS}/undercut-finetune-1", timeout=30)
        return patch(**arguments)

    with monkeypatch.context() as patched:
        patched.setattr(again._api, "patch_namespaced_custom_object", collected_first)
        assert not again.adopt()
    job().create()
    assert again.adopt()
    requests.delete(f"{cluster.url}{JOBS}/undercut-finetune-1", timeout=30)
    assert again.follow() is None
    assert not again.adopt()
    again.create()
    requests.delete(f"{cluster.url}{JOBS}/undercut-finetune-1", timeout=30)
    with pytest.raises(RuntimeError, match="was deleted while the step followed it"):
        again.follow()


def test_a_webhooks_refusal_is_no_lack_of_rights(cluster: Cluster) -> None:
    cluster.denied.add(("POST", "trainjobs"))
    cluster.denial = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: no runtime'
    with pytest.raises(ConfigurationError, match=r"denied the request: no runtime'.*Kubeflow Trainer and its"):
        job().create()


def test_a_job_that_vanishes_is_no_success(cluster: Cluster) -> None:
    mine = job()
    mine.create()
    requests.delete(f"{cluster.url}{JOBS}/undercut-finetune-1", timeout=30)
    with pytest.raises(RuntimeError, match="was deleted while the step followed it"):
        mine.follow()


def test_an_error_of_the_step_deletes_the_job(cluster: Cluster) -> None:
    mine = job()
    mine.create()
    with pytest.raises(KeyboardInterrupt), mine.deleted_on_leaving():
        raise KeyboardInterrupt
    assert cluster.jobs() == []


def test_the_log_is_repeated_once_over_breaks_and_restarts(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events"))
    monkeypatch.setattr(events, "_task", {})
    events.begin("t-2", "finetune", "")
    log = trainjob_log.NodeLog(kubernetes.CoreV1Api(kubernetes_api.connect()), NAMESPACE, "j")
    log.repeat()
    assert log.phase() == "waiting for its pods"

    def pod(name: str, node: int = 0, **ended: Any) -> None:
        labels = {"jobset.sigs.k8s.io/jobset-name": "j", "jobset.sigs.k8s.io/replicatedjob-name": "node"}
        labels["batch.kubernetes.io/job-completion-index"] = str(node)
        metadata = {"name": name, "namespace": NAMESPACE, "uid": name, "labels": labels, "creationTimestamp": now()}
        state = {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
        states = [{**state, "state": {"terminated": ended}}] if ended else []
        content = {"metadata": metadata, "status": {"phase": "Running", "containerStatuses": states}}
        requests.post(cluster.url + PODS, json=content, timeout=30).raise_for_status()

    cluster.terminating.add("old")
    pod("old")
    cluster.logs["old"] = [("2026-01-01T00:00:00Z", "of a job that was deleted")]
    log.repeat()
    pod("a")
    content = {"time": 5.0, "task": "t-1", "step": "finetune", "type": "progress", "done": 1, "message": "a\u2028b"}
    event = json.dumps(content, ensure_ascii=False)
    cluster.logs["a"] = [("2026-01-01T00:00:01Z", "one"), ("2026-01-01T00:00:02Z", event)]
    cluster.logs["a"] += [("2026-01-01T00:00:02Z", " 10%|#\r 20%|##"), ("unable", "to retrieve container logs")]
    log.repeat()
    cluster.denied.add(("GET", "pods"))
    log.repeat()
    cluster.denied.clear()
    cluster.logs["a"] += [("2026-01-01T00:00:03Z", "two"), ("2026-01-01T00:00:03Z", '{"time": torn')]
    log.repeat()
    cluster.terminating.add("a")  # one that is followed is read to its end
    cluster.logs["a"] += [("2026-01-01T00:00:04Z", "three")]
    log.repeat()
    pod("b")
    cluster.logs["b"] = [("2026-01-01T00:00:00Z", "again")]
    log.repeat()
    assert capsys.readouterr().err.split("\n")[:-1] == [
        "one",
        " 10%|#\r 20%|##",
        "two",
        '{"time": torn',
        "three",
        "again",
    ]
    written = [json.loads(line) for line in (tmp_path / "events").read_text().split("\n")[:-1]]
    assert [w for w in written if w["type"] == "progress"] == [{**content, "detail": "", "task": "t-2"}]
    assert [w["message"] for w in written if w["type"] == "message"] == [
        "the log of node 0 cannot be read right now: ApiException"
    ]
    assert log.phase() == "node 0 is running"
    pod("c", node=1, reason="OOMKilled", exitCode=137)
    assert log.last_words().splitlines()[0] == "node 1: OOMKilled, exit code 137"


@pytest.mark.slow
def test_sigterm_deletes_the_job_before_anything_else(cluster: Cluster, tmp_path: Path) -> None:
    code = (
        "from undercut.cluster import trainjob\nfrom undercut.resources import Resources\n"
        "from undercut.steps import step\nfrom undercut.cluster.trainjob_body import body\nimport os\n"
        "trainjob.POLL_SECONDS = 0.1\n"
        "with step('finetune'):\n"
        "    job = trainjob.Job('j', body('j', 'finetune', 's3://b/k', Resources(nodes=2), os.environ))\n"
        "    with job.deleted_on_leaving():\n        job.create()\n        job.follow()\n"
    )
    environment = {**clean_environment(), **STEP, "KUBECONFIG": os.environ["KUBECONFIG"]}
    del environment["UNDERCUT_CHECKPOINTS"]
    environment |= {"UNDERCUT_EVENTS": str(tmp_path / "events")}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    for _ in range(600):
        if sum(path.endswith("/trainjobs/j") for _, path, _ in list(cluster.requests)) > 3:
            break
        time.sleep(0.1)
    seen = len(cluster.requests)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert cluster.jobs() == []
    after = [method for method, path, _ in cluster.requests[seen:] if path.endswith("/trainjobs/j")]
    # A request that was on its way may come in beside it.
    assert after.index("DELETE") <= 1
    last = json.loads((tmp_path / "events").read_text().splitlines()[-1])
    assert (last["type"], last["error"]) == ("failed", "ended by request: TrainJob j was deleted")


@pytest.fixture
def weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weed]:
    with serving(tmp_path / "weed") as server:
        server.bucket("mlpipeline")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.resilience
def test_a_training_runs_in_a_trainjob_and_its_model_comes_back(
    cluster: Cluster, weed: Weed, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real processes under torchrun, inputs and outputs in a real S3 store, KFP's minio URIs."""
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events"))
    events.begin("task-1", "finetune", "")
    data = write_dataset(tmp_path / "rows", small_rows()[:200])
    root = "mlpipeline/v2/artifacts/finetune/run/finetune/1f"
    folders.upload(data, f"s3://{root}/data")
    inputs = {"data": Place(data, f"minio://{root}/data"), "made": None}
    outputs = {n: Place(tmp_path / "out" / n, f"minio://{root}/{n}") for n in ("output", "adapter")}
    config = FinetuneConfig(base_model=str(tiny_base), epochs=2, learning_rate=3e-3, batch_tokens=256, refit=False)
    wanted = parse_resources({"nodes": 2, "processes": 2, "cpu": "2"})
    trainer = Trainer(cluster, {**clean_environment(), **weed.environment})
    try:
        trainjob.run("finetune", wanted, inputs, outputs, {"config": config})
        manifest = artifacts.verify(tmp_path / "out" / "output", artifacts.MODEL)
        assert [point["epoch"] for point in manifest["metrics"]["curve"]] == [1, 2]
        (entry,) = manifest["ledger"]
        assert (entry["step"], entry["detail"]) == ("finetune", "2 nodes")
        stored = {k.removeprefix(f"{root.partition('/')[2]}/output/") for k in keys(weed.client(), "mlpipeline")}
        assert {*manifest["files"], artifacts.MODEL} <= stored
        assert artifacts.load(tmp_path / "out" / "adapter", artifacts.MODEL)["lost"]
        written = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
        assert {"progress", "metric", "parameters", "message"} <= {w["type"] for w in written if w["task"] == "task-1"}
        assert any("loss" in w.get("message", "") for w in written if w["type"] == "progress")
        (sent,) = cluster.jobs()
        monkeypatch.setenv("UNDERCUT_POD_UID", "uid-2")
        again = {n: Place(tmp_path / "retry" / n, f"minio://{root}/{n}") for n in outputs}
        trainjob.run("finetune", wanted, inputs, again, {"config": config})
        assert len(trainer.processes) == 1
        assert artifacts.verify(tmp_path / "retry" / "output", artifacts.MODEL)["digest"] == manifest["digest"]
        assert cluster.jobs()[0]["spec"] == sent["spec"]
    finally:
        trainer.close()


@pytest.mark.resilience
def test_a_training_that_is_refused_or_fails_says_why(
    cluster: Cluster, weed: Weed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "rows", small_rows()[:60])
    folders.upload(data, "s3://mlpipeline/data")
    inputs = {"data": Place(data, "s3://mlpipeline/data"), "made": None}
    config = {"config": FinetuneConfig(base_model="/nowhere")}
    trainer = Trainer(cluster, {**clean_environment(), **weed.environment})
    try:
        outputs = {n: Place(tmp_path / n, f"minio://mlpipeline/1/{n}") for n in ("output", "adapter")}
        with pytest.raises(ConfigurationError, match="base_model: got '/nowhere'"):
            trainjob.run("finetune", parse_resources({"nodes": 2}), inputs, outputs, config)
        trainer.environment["AWS_SECRET_ACCESS_KEY"] = "another"
        outputs = {n: Place(tmp_path / n, f"minio://mlpipeline/2/{n}") for n in ("output", "adapter")}
        with pytest.raises(
            RuntimeError,
            match=r"failed: jobset failed(.|\n)*node 0: Error, exit code 1(.|\n)*These credentials may not read it",
        ):
            trainjob.run("finetune", parse_resources({"nodes": 1}), inputs, outputs, config)
    finally:
        trainer.close()
