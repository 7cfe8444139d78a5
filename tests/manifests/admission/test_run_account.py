"""What a run's ServiceAccount may do on a real API server, tried by our own code with a token of it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from undercut.cluster import trainjob
from undercut.cluster.trainjob_body import body
from undercut.deploy.canary import Knative, Standard, alone
from undercut.deploy.cluster import Cluster, Conflict
from undercut.deploy.inference_service import Object, Served, inference_service, stable_predictor
from undercut.deploy.settings import DeployConfig
from undercut.errors import ConfigurationError
from undercut.resources import Resources

from tests.manifests.admission.conftest import Overlay
from tests.manifests.admission.server import ApiServer
from tests.manifests.admission.step_pods import RUN_ID
from tests.manifests.test_custom_resources import lost

ACCOUNT = "undercut-runner"
FIRST, SECOND = Served(digest="a" * 64, uri="s3://b/first"), Served(digest="b" * 64, uri="s3://b/second")
STEP = {"UNDERCUT_RUN_ID": RUN_ID, "UNDERCUT_IMAGE": "registry.example/train:1", "UNDERCUT_TEAM": "support"}
WIDE = Resources(
    nodes=2,
    accelerator="nvidia.com/gpu",
    accelerator_count=1,
    node_selector={"karpenter.sh/capacity-type": "spot"},
    tolerations=[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
)


@pytest.fixture(scope="module")
def gpu(overlays: dict[str, Overlay]) -> Overlay:
    return overlays["overlays/gpu"]


@pytest.fixture(scope="module")
def token(gpu: Overlay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu.server.as_account(gpu.runs, ACCOUNT, tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(gpu: Overlay, token: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overlay]:
    """This process is a step of a run: it has the ServiceAccount's token, and its pod is there."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(token))
    become(gpu, "step-1", monkeypatch)
    yield gpu
    for pod in gpu.server.core.list_namespaced_pod(gpu.runs).items:
        gpu.server.core.delete_namespaced_pod(pod.metadata.name, gpu.runs, grace_period_seconds=0)


def become(overlay: Overlay, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a pod and be it."""
    restricted = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {"containers": [{"name": "main", "image": "none", "securityContext": locked}], "securityContext": restricted}
    made = overlay.server.create_pod(overlay.runs, {"metadata": {"name": name}, "spec": spec})
    here = {"UNDERCUT_POD": name, "UNDERCUT_POD_UID": made["metadata"]["uid"], "UNDERCUT_NAMESPACE": overlay.runs}
    for variable, value in {**STEP, **here}.items():
        monkeypatch.setenv(variable, value)


def test_an_account_has_the_rights_of_its_role_and_no_other(run: Overlay) -> None:
    asked = client.AuthorizationV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))
    found = asked.create_self_subject_rules_review({"spec": {"namespace": run.runs}}).status.resource_rules
    nobody = run.server.kubectl(
        *("auth", "can-i", "--list", "--no-headers", "--namespace", run.runs),
        *("--as", f"system:serviceaccount:{run.runs}:default", "--as-group", "system:authenticated"),
        *("--as-group", "system:serviceaccounts"),
    )
    everybody = {line.split()[0] for line in nobody.stdout.splitlines() if line.startswith("self")}
    (role,) = (item for item in run.served if item["kind"] == "Role")
    written = {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }
    allowed = {
        (group, resource, name, verb)
        for rule in found
        for group in rule.api_groups or []
        for resource in rule.resources or []
        for name in rule.resource_names or [""]
        for verb in rule.verbs
        if f"{resource}.{group}" not in everybody
    }
    assert allowed == written


@pytest.mark.parametrize(
    "attempt",
    [
        *("create pods", "delete pods", "patch pods", "create pods/exec", "get secrets/undercut", "list secrets"),
        *("watch secrets", "list configmaps", "create jobs.batch", "update deployments.apps", "create roles"),
        *("create rolebindings", "create serviceaccounts/token", "update trainjobs.trainer.kubeflow.org"),
        *("update trainingruntimes.trainer.kubeflow.org", "update servingruntimes.serving.kserve.io", "get nodes"),
        *("impersonate serviceaccounts", "list namespaces", "delete workflows.argoproj.io", "patch resourcequotas"),
    ],
)
def test_an_account_may_not(run: Overlay, attempt: str) -> None:
    done = run.server.kubectl(
        *("auth", "can-i", *attempt.split(), "--namespace", run.runs),
        *("--as", f"system:serviceaccount:{run.runs}:{ACCOUNT}"),
    )
    assert done.stdout.strip() == "no", done.stdout + done.stderr


def test_neighbours_may_nothing_here(gpu: Overlay, overlays: dict[str, Overlay], token: Path) -> None:
    core = client.CoreV1Api(config.new_client_from_config(str(token)))
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_pod(overlays["overlays/kind"].runs)
    assert refused.value.status == 403


def make_job(name: str, **changes: Object) -> trainjob.Job:
    """Return a TrainJob as a step describes it."""
    wanted = body(name, "finetune", "s3://b/worker.json", WIDE, os.environ)
    wanted["spec"] |= changes
    return trainjob.Job(name, wanted)


def stored(run: Overlay, name: str) -> Object | None:
    """Return the TrainJob as the server has it, None if it is gone."""
    done = run.server.kubectl("get", "trainjob", name, "--namespace", run.runs, "-o", "json", "--ignore-not-found")
    return json.loads(done.stdout) if done.stdout else None


def test_a_trainjob_is_made_adopted_and_deleted(run: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    run.of_kind("TrainingRuntime")
    name = trainjob.job_name("finetune", RUN_ID, "s3://b/model/")
    first = make_job(name)
    assert not first.adopt()
    first.create()
    first.create()  # 409: another attempt was faster
    sent = body(name, "finetune", "s3://b/worker.json", WIDE, os.environ)
    made = stored(run, name)
    assert made is not None
    assert lost(sent, made) == []
    become(run, "step-2", monkeypatch)
    second = make_job(name)
    with second.deleted_on_leaving():
        assert second.adopt()
        found = stored(run, name)
        assert found is not None
        assert [o["name"] for o in found["metadata"]["ownerReferences"]] == ["step-2"]
    assert stored(run, name) is None


def test_a_trainjob_that_breaks_a_rule_is_refused_in_one_line(run: Overlay) -> None:
    run.of_kind("TrainingRuntime")
    with pytest.raises(ConfigurationError, match=r"[mM]anagedBy"):
        make_job("bad", managedBy="me").create()
    with pytest.raises(ConfigurationError, match="RFC 1035"):
        make_job("1-finetune").create()


def test_the_pods_of_a_trainjob_can_be_listed_and_their_logs_asked_for(run: Overlay) -> None:
    run.of_kind("TrainingRuntime")
    core = client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))
    assert core.list_namespaced_pod(run.runs, label_selector="jobset.sigs.k8s.io/jobset-name=none").items == []
    core.read_namespaced_pod_log("step-1", run.runs, container="main", timestamps=True)  # nothing yet


CONFIGS = {
    "standard": DeployConfig(model_name="customer-service", min_replicas=2),
    "scaled": DeployConfig(model_name="customer-service", min_replicas=2, scale_metric="cpu", scale_target=70),
    "gpu": DeployConfig(model_name="Modell_1.5", min_replicas=2, accelerator="nvidia.com/gpu", accelerator_count=1),
    "knative": DeployConfig(model_name="customer-service", mode="Knative", scale_metric="rps", scale_target=20),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_inference_service_is_made_changed_and_deleted(run: Overlay, name: str) -> None:
    run.of_kind("ServingRuntime")
    settings, cluster = CONFIGS[name], Cluster(run.runs)
    content = inference_service(settings, run.runs, FIRST)
    service, mode = content["metadata"]["name"], Knative() if settings.mode == "Knative" else Standard()
    assert cluster.get(service) is None
    try:
        made = cluster.create(content)
        assert lost(content["spec"], made["spec"]) == []
        with pytest.raises(Conflict):
            cluster.create(content)
        for percent in (0, 50):
            changed = mode.with_canary(cluster.get(service) or {}, settings, SECOND, percent)
            assert lost(changed["spec"], cluster.replace(changed)["spec"]) == []
        with pytest.raises(Conflict):  # that version is not the newest
            cluster.replace(changed | {"metadata": changed["metadata"] | {"labels": {"a": "b"}}})
        cluster.replace(alone(cluster.get(service) or {}, settings, stable_predictor(settings, SECOND)))
        for before in mode.ways_back(made["spec"]["predictor"]):
            cluster.replace(alone(cluster.get(service) or {}, settings, before))
        assert cluster.pods({"serving.kserve.io/inferenceservice": service}) == []
    finally:
        cluster.delete(service)
    assert cluster.get(service) is None
    cluster.delete(service)


def test_a_generators_service_is_taken(run: Overlay) -> None:
    run.of_kind("ServingRuntime")
    cluster, served = Cluster(run.runs), Served(digest="c" * 64, uri="s3://b/third", model_format="huggingface")
    made = cluster.create(inference_service(CONFIGS["gpu"], run.runs, served))
    cluster.delete(made["metadata"]["name"])


def test_another_namespace_is_refused_with_the_remedy(run: Overlay, server: ApiServer) -> None:
    run.of_kind("ServingRuntime")
    with pytest.raises(ConfigurationError, match="manifests/runs"):
        Cluster("default").create(inference_service(CONFIGS["standard"], "default", FIRST))
