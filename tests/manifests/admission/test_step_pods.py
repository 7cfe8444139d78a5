"""The pods of every step of every pipeline, under Pod Security `restricted`, with the LimitRange and the quota."""

from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException
from undercut.allocate.allocation import allocation

from tests.cluster.test_pods import OPTIONS, PIPELINES, compiled, tasks
from tests.manifests.admission.conftest import Overlay
from tests.manifests.admission.server import Object
from tests.manifests.admission.step_pods import driver_pod, step_pod

GPU = {
    "accelerator": "nvidia.com/gpu",
    "accelerator_count": 1,
    "node_selector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


def create(overlay: Overlay, pod: Object) -> Object:
    """Create a pod in the namespace of runs and delete it; return what the server made of it."""
    made = overlay.server.create_pod(overlay.runs, pod)
    overlay.server.core.delete_namespaced_pod(pod["metadata"]["name"], overlay.runs, grace_period_seconds=0)
    overlay.server.count_anew(overlay.runs, "undercut-gpu")
    return made


@pytest.mark.parametrize("resources", [{}, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_every_step_is_admitted(gpu: Overlay, path: Path, resources: Object) -> None:
    spec, executors = compiled(path, OPTIONS)
    for name, _, _, label in tasks(spec):
        container = spec["deploymentSpec"]["executors"][label]["container"]
        pod = step_pod(container, executors[label], allocation(resources), f"try-{name}"[:60])
        made = {c["name"]: c for c in create(gpu, pod)["spec"]["containers"]}
        # The LimitRange fills in what Argo leaves out, and nothing else.
        assert made["wait"]["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}}, name
        assert made["main"]["resources"]["limits"] == pod["spec"]["containers"][1]["resources"]["limits"], name


def test_a_driver_is_admitted(gpu: Overlay) -> None:
    create(gpu, driver_pod("try-driver"))


def finetuning(resources: Object, name: str) -> Object:
    """Return the pod of a training step."""
    spec, executors = compiled(Path("pipelines/finetune.py"), OPTIONS)
    label = next(label for step, _, _, label in tasks(spec) if step == "finetune")
    container = spec["deploymentSpec"]["executors"][label]["container"]
    return step_pod(container, executors[label], allocation(resources), name)


def test_a_step_without_its_security_context_is_refused(gpu: Overlay) -> None:
    """Why every step has one."""
    pod = finetuning({}, "try-root")
    for key in ("runAsUser", "runAsGroup", "runAsNonRoot"):
        del pod["spec"]["containers"][1]["securityContext"][key]
    with pytest.raises(ApiException, match="runAsNonRoot != true") as refused:
        create(gpu, pod)
    assert refused.value.status == 403


def test_the_quota_counts_the_accelerators_of_steps(gpu: Overlay) -> None:
    with pytest.raises(ApiException, match=r"exceeded quota: undercut-gpu, requested: requests\.nvidia\.com/gpu=8"):
        create(gpu, finetuning({**GPU, "accelerator_count": 8}, "try-eight"))


@pytest.mark.parametrize(
    "resources",
    [
        {"cpu": "500m", "memory": "1.5Gi"},
        {"cpu": "0.5", "memory": "2G"},
        {
            "tolerations": [
                {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute", "tolerationSeconds": 60.0}
            ]
        },
        {"tolerations": [{"operator": "Exists"}]},
        {"node_selector": {"karpenter.sh/capacity-type": "spot", "zone": ""}},
        {"secret": "team.secrets-1"},
    ],
    ids=str,
)
def test_what_we_take_as_resources_the_server_takes(gpu: Overlay, resources: Object) -> None:
    create(gpu, finetuning(resources, "try-resources"))
