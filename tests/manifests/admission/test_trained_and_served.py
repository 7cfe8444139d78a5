"""What Trainer, JobSet and KServe make of our objects, as far as a real API server looks at it.

No controller of theirs runs here: their objects are put together as their sources do (Trainer 2.3, JobSet 0.12,
KServe 0.20) and created under Pod Security `restricted`.
"""

import copy
import json
import time
from pathlib import Path

import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from undercut.cluster.trainjob_body import NODE, body
from undercut.resources import Resources

from tests.manifests.admission.conftest import Overlay
from tests.manifests.admission.server import Object
from tests.manifests.admission.step_pods import RUN_ID
from tests.manifests.rendering import OVERLAYS
from tests.manifests.test_storage_initializer import KSERVE, hardened

ENVIRONMENT = {
    "UNDERCUT_RUN_ID": RUN_ID,
    "UNDERCUT_IMAGE": "registry.example/train:1",
    "UNDERCUT_POD": "step-1",
    "UNDERCUT_POD_UID": "a2e2f8a0-6d0c-4f2e-8a5e-111111111111",
}
TWO_GPUS = Resources(nodes=2, accelerator="nvidia.com/gpu", accelerator_count=1)


def jobset(overlay: Overlay, name: str, wanted: Resources) -> Object:
    """Return the JobSet that Trainer makes: the runtime's, patched, with the TrainJob's trainer in container `node`."""
    asked = body(name, "finetune", "s3://b/worker.json", wanted, {**ENVIRONMENT, "UNDERCUT_NAMESPACE": overlay.runs})
    spec = copy.deepcopy(overlay.of_kind("TrainingRuntime")["spec"]["template"]["spec"])
    (job,), trainer = spec["replicatedJobs"], asked["spec"]["trainer"]
    patch = asked["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    added = patch["template"]["spec"]["template"]
    pod = job["template"]["spec"]["template"]
    pod["metadata"]["labels"] |= added["metadata"]["labels"]
    pod["metadata"]["annotations"] = added["metadata"]["annotations"]
    pod["spec"] |= added["spec"]
    (container,) = (c for c in pod["spec"]["containers"] if c["name"] == NODE)
    container |= {"image": trainer["image"], "command": trainer["command"], "args": trainer["args"]}
    merged = {entry["name"]: entry for entry in [*container["env"], *trainer["env"]]}
    container["env"] = [*merged.values(), {"name": "PET_NNODES", "value": str(wanted.nodes)}]
    container |= {"resources": trainer["resourcesPerNode"], "ports": [{"containerPort": 29400}]}
    job["template"]["spec"] |= {"parallelism": wanted.nodes, "completions": wanted.nodes}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": overlay.runs, "labels": {"undercut/test": overlay.server.mark}},
        "spec": spec,
    }


def job_of(made: Object) -> Object:
    """Return the Job that JobSet makes of its one replicated job."""
    template = copy.deepcopy(made["spec"]["replicatedJobs"][0]["template"])
    template["spec"] |= {"completionMode": "Indexed", "suspend": False}
    metadata = {"name": f"{made['metadata']['name']}-{NODE}-0", "namespace": made["metadata"]["namespace"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**template["metadata"], **metadata},
        "spec": template["spec"],
    }


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_jobset_of_a_trainjob_and_its_job_are_taken(overlays: dict[str, Overlay], folder: str) -> None:
    overlay = overlays[folder]
    wanted = Resources(nodes=2) if folder.endswith("kind") else TWO_GPUS
    made = jobset(overlay, "undercut-finetune-0123456789abcdef", wanted)
    overlay.server.apply([i for i in (made, job_of(made)) if overlay.server.serves(i)])
    pod = {"metadata": {"name": "try-node"}, "spec": job_of(made)["spec"]["template"]["spec"]}
    overlay.server.create_pod(overlay.runs, pod)
    if _controllers_run(overlay):
        assert _pods_of_the_job(overlay, made["metadata"]["name"]) == 2
    else:
        pytest.skip("a pod of its template is admitted; no controller made the Job's own")


def _controllers_run(overlay: Overlay) -> bool:
    """Return whether a controller manager has written what it writes into every namespace."""
    found = overlay.server.core.list_namespaced_config_map(overlay.runs).items
    return "kube-root-ca.crt" in {item.metadata.name for item in found}


def _pods_of_the_job(overlay: Overlay, name: str) -> int:
    selector = f"batch.kubernetes.io/job-name={name}-{NODE}-0"
    for _ in range(60):
        pods = overlay.server.core.list_namespaced_pod(overlay.runs, label_selector=selector).items
        if len(pods) == 2:
            break
        time.sleep(0.5)
    return len(pods)


def test_a_trainjob_ends_with_the_pod_that_owns_it(overlays: dict[str, Overlay]) -> None:
    overlay = overlays["overlays/kind"]
    overlay.of_kind("TrainingRuntime")
    if not _controllers_run(overlay):
        pytest.skip("no controller collects garbage here")
    spec = job_of(jobset(overlay, "owner", Resources()))["spec"]["template"]["spec"]
    pod = overlay.server.create_pod(overlay.runs, {"metadata": {"name": "step-1"}, "spec": spec})
    here = {"UNDERCUT_POD_UID": pod["metadata"]["uid"], "UNDERCUT_NAMESPACE": overlay.runs}
    overlay.server.apply([body("orphan", "finetune", "s3://b/w", Resources(nodes=2), {**ENVIRONMENT, **here})])
    overlay.server.core.delete_namespaced_pod("step-1", overlay.runs, grace_period_seconds=0)
    arguments = ("get", "trainjob", "orphan", "--namespace", overlay.runs, "--ignore-not-found", "-o", "name")
    for _ in range(60):
        if not (found := overlay.server.kubectl(*arguments).stdout):
            break
        time.sleep(1)
    assert found == ""


def predictor_pod(overlay: Overlay, fetching: Object) -> Object:
    """Return a predictor's pod: the runtime's container, and the one that fetches the model, by KServe's webhook."""
    runtime = copy.deepcopy(overlay.of_kind("ServingRuntime")["spec"])
    (server,) = runtime["containers"]
    server["args"] = [json.loads(json.dumps(a).replace("{{.Name}}", "customer-service")) for a in server["args"]]
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    server["volumeMounts"] = [*server["volumeMounts"], {**mount, "readOnly": True}]
    first = {**fetching, "args": ["s3://b/model", "/mnt/models"], "volumeMounts": [mount]}
    spec = {
        "serviceAccountName": "undercut-serving",
        "containers": [server],
        "initContainers": [first],
        "volumes": [*runtime["volumes"], {"name": mount["name"], "emptyDir": {}}],
    }
    return {"metadata": {"name": "try-predictor"}, "spec": spec}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_predictor_is_admitted_with_the_hardened_initializer(
    overlays: dict[str, Overlay], folder: str, tmp_path: Path
) -> None:
    overlay, storage = overlays[folder], hardened(tmp_path)
    if overlay.server.serves(storage):
        done = overlay.server.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", given=[storage])
        assert done.returncode == 0, done.stderr
    made = overlay.server.create_pod(overlay.runs, predictor_pod(overlay, storage["spec"]["container"]))
    overlay.server.core.delete_namespaced_pod("try-predictor", overlay.runs, grace_period_seconds=0)
    mounts = {m["mountPath"] for c in made["spec"]["containers"] for m in c["volumeMounts"]}
    assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts


def test_without_it_a_predictor_is_refused(overlays: dict[str, Overlay]) -> None:
    overlay = overlays["overlays/kind"]
    fetching = yaml.safe_load(KSERVE)["spec"]["container"]
    with pytest.raises(ApiException, match='container \\\\"storage-initializer\\\\" must set') as refused:
        overlay.server.create_pod(overlay.runs, predictor_pod(overlay, fetching))
    assert refused.value.status == 403
