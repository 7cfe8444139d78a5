"""TrainJobs on a real API server: our own code makes, adopts, follows and deletes them with a run's token."""

import json
import os
import signal
import time

import pytest
from kubernetes import client, config
from undercut.cluster import trainjob
from undercut.cluster.trainjob_body import body
from undercut.errors import ConfigurationError
from undercut.interruption import Terminated
from undercut.resources import Resources

from tests.manifests.admission.conftest import Overlay, become
from tests.manifests.admission.server import Object
from tests.manifests.admission.step_pods import RUN_ID
from tests.manifests.test_custom_resources import lost

WIDE = Resources(
    nodes=2,
    accelerator="nvidia.com/gpu",
    accelerator_count=1,
    node_selector={"karpenter.sh/capacity-type": "spot"},
    tolerations=[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
)


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


def set_condition(run: Overlay, name: str, kind: str) -> None:
    """Write what Trainer's controller would."""
    condition = {"type": kind, "status": "True", "reason": kind, "message": "by a test"}
    status = {"conditions": [{**condition, "lastTransitionTime": "2026-11-26T10:00:00Z"}]}
    patch = ("patch", "trainjob", name, "--namespace", run.runs, "--subresource=status", "--type=merge", "-p")
    done = run.server.kubectl(*patch, json.dumps({"status": status}))
    assert done.returncode == 0, done.stderr


def test_a_trainjob_is_followed_to_its_end_and_a_failed_one_made_anew(run: Overlay) -> None:
    run.of_kind("TrainingRuntime")
    name = trainjob.job_name("finetune", RUN_ID, "s3://b/followed/")
    job = make_job(name)
    with job.deleted_on_leaving():
        job.create()
        set_condition(run, name, "Failed")
        assert "failed: by a test" in job.follow()
        again = make_job(name)
        assert not again.adopt()
        assert stored(run, name) is None
        again.create()
        set_condition(run, name, "Complete")
        assert again.follow() == ""
    assert stored(run, name) is not None
    run.server.kubectl("delete", "trainjob", name, "--namespace", run.runs)


def test_a_terminated_step_has_deleted_its_trainjob_within_a_second(run: Overlay) -> None:
    """KFP leaves a step no more; the time is that of a first request over TLS, as the signal finds it."""
    run.of_kind("TrainingRuntime")
    job = make_job("undercut-finetune-cancelled")
    job.create()
    started = time.monotonic()
    with pytest.raises(Terminated), job.deleted_on_leaving():
        signal.raise_signal(signal.SIGTERM)
    assert time.monotonic() - started < 1.0
    assert stored(run, "undercut-finetune-cancelled") is None


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
