"""What is asked of Kubeflow Trainer: the TrainJob, field by field (trainer.kubeflow.org/v1alpha1)."""

from collections.abc import Mapping
from typing import Any

from undercut.resources import Resources

GROUP = ("trainer.kubeflow.org", "v1alpha1")
RUNTIME = "undercut-train"
# The runtime's ReplicatedJob and its container, by Trainer's convention.
NODE = "node"
MANAGER = "undercut"
# Who patches the runtime: Trainer's webhook refuses a name that is no domain with a path.
PATCHER = "undercut/step"
# A TrainJob ends after so long, where UNDERCUT_LONGEST_HOURS says nothing else: as long as a step and its retries.
LONGEST_HOURS = "48"
# How long a node waits for the first one, which may still wait for a machine or its image; torchrun's own 600 s make
# nodes fail, and use up the restart, while an autoscaler works.
MEETING_SECONDS = 3600
# Variables of the step that its workers get too. None is a secret: those come by the runtime's envFrom, and the
# user's own token by a reference.
HANDED_ON = ("UNDERCUT_RUN_ID", "UNDERCUT_NODE", "UNDERCUT_CHECKPOINTS", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
KEEP = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def body(name: str, training: str, worker: str, wanted: Resources, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the TrainJob.

    Args:
        name: its name.
        training: what is trained, as a label.
        worker: URI of the file that tells the workers what to do.
        wanted: what a node gets, and how many there are.
        environment: the step's: ``UNDERCUT_POD``, ``UNDERCUT_POD_UID``, ``UNDERCUT_NAMESPACE``,
            ``UNDERCUT_RUN_ID``, ``UNDERCUT_IMAGE``, and what is handed on.
    """
    labels = {
        "app.kubernetes.io/managed-by": MANAGER,
        "pipeline/runid": environment["UNDERCUT_RUN_ID"],
        "undercut/stage": training,
        **{f"undercut/{n}": v for n in ("team", "recipe") if (v := environment.get(f"UNDERCUT_{n.upper()}"))},
    }
    return {
        "apiVersion": "/".join(GROUP),
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": environment["UNDERCUT_NAMESPACE"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": environment["UNDERCUT_POD"],
                    "uid": environment["UNDERCUT_POD_UID"],
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP[0], "kind": "TrainingRuntime", "name": RUNTIME},
            "activeDeadlineSeconds": int(environment.get("UNDERCUT_LONGEST_HOURS", LONGEST_HOURS)) * 3600,
            "trainer": {
                "image": environment["UNDERCUT_IMAGE"],
                "command": ["torchrun"],
                "args": [f"--rdzv-conf=timeout={MEETING_SECONDS}", "--module", "undercut.worker", worker],
                "numNodes": wanted.nodes,
                "numProcPerNode": wanted.processes_per_node,
                "resourcesPerNode": _resources(wanted),
                "env": _environment(environment, wanted),
            },
            "runtimePatches": [_patch(wanted, labels, environment.get("UNDERCUT_SPOT") == "1")],
        },
    }


def _environment(environment: Mapping[str, str], wanted: Resources) -> list[dict[str, Any]]:
    values = {name: environment[name] for name in HANDED_ON if environment.get(name)}
    values |= {"UNDERCUT_HOME": "/tmp/undercut", "UNDERCUT_EVENTS": "-", "OMP_NUM_THREADS": _threads(wanted)}
    token = {"secretKeyRef": {"name": wanted.secret, "key": "HF_TOKEN", "optional": True}}
    return [*({"name": n, "value": v} for n, v in values.items()), {"name": "HF_TOKEN", "valueFrom": token}]


def _threads(wanted: Resources) -> str:
    """Return each process's share of a node's cores: libraries would take all that the machine has."""
    cores = float(wanted.cpu[:-1]) / 1000 if wanted.cpu.endswith("m") else float(wanted.cpu)
    return str(max(1, int(cores) // wanted.processes_per_node))


def _resources(wanted: Resources) -> dict[str, dict[str, str]]:
    amounts = {"cpu": wanted.cpu, "memory": wanted.memory}
    if wanted.accelerator_count:
        amounts[wanted.accelerator] = str(wanted.accelerator_count)
    return {"requests": amounts, "limits": amounts}


def _patch(wanted: Resources, labels: Mapping[str, str], spot: bool) -> dict[str, Any]:
    """Return what the runtime's pods get beside: labels, no Istio sidecar, where they may run.

    On a spot node nothing asks to be kept: the node goes when it goes, and the training resumes.
    """
    pod: dict[str, Any] = {}
    if wanted.node_selector:
        pod["nodeSelector"] = dict(wanted.node_selector)
    if wanted.tolerations:
        pod["tolerations"] = [dict(item) for item in wanted.tolerations]
    annotations = NO_SIDECAR if spot else {**NO_SIDECAR, **KEEP}
    template = {"metadata": {"labels": {**labels, **NO_SIDECAR}, "annotations": annotations}, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"manager": PATCHER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
