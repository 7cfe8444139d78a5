"""The pods that KFP 2.17 and Argo 4.0 make of a compiled pipeline's steps, as far as an API server looks at them.

Read in their sources: KFP's compiler (backend/src/v2/compiler/argocompiler: container.go, security_context.go),
KFP's driver (backend/src/v2/driver: driver.go, k8s.go), Argo's controller (workflow/controller/workflowpod.go) with
the configuration that KFP installs (workflow-controller-configmap-patch.yaml).
"""

import re
from typing import Any

from undercut.allocate.allocation import Allocation

Object = dict[str, Any]
ACCOUNT = "undercut-runner"
RUN_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Of init and wait, from KFP's ConfigMap.
EXECUTOR = {"runAsNonRoot": True, "runAsUser": 65532, **HARDENED}
SCRATCH = ("gcs", "s3", "minio", "dot-local", "dot-cache", "dot-config")
ARGO = {"name": "var-run-argo", "mountPath": "/var/run/argo"}
LAUNCHER = {"name": "kfp-launcher", "mountPath": "/kfp-launcher"}
LAUNCHED = [
    *("/kfp-launcher/launch", "--pipeline_name", "p", "--run_id", RUN_ID, "--execution_id", "3"),
    *("--executor_input", "{}", "--component_spec", "{}", "--pod_name", "$(KFP_POD_NAME)"),
    *("--pod_uid", "$(KFP_POD_UID)", "--"),
]
EMISSARY = ["/var/run/argo/argoexec", "emissary", "--loglevel", "info", "--log-format", "text", "--"]


def step_pod(container: Object, asked: Object, allocation: Allocation, name: str) -> Object:
    """Return the pod of one step.

    Args:
        container: the executor's container, of the compiled pipeline.
        asked: the executor's part of the platform specification.
        allocation: what the run's first step has decided.
        name: the pod's.
    """
    volumes, mounts = _volumes(asked)
    main = {
        "name": "main",
        "image": container["image"],
        "command": [*EMISSARY, *LAUNCHED],
        "args": [*container.get("command", []), *container.get("args", [])],
        "env": [*_fields("KFP_POD_"), *_environment(container, asked, allocation)],
        "envFrom": [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}],
        "resources": _resources(container.get("resources", {}), allocation),
        "securityContext": _security(asked),
        "volumeMounts": [LAUNCHER, *_scratch_mounts(), *mounts, ARGO],
    }
    spec: Object = {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_argoexec("init"), _launcher()],
        "containers": [_argoexec("wait"), main],
        "volumes": [
            *_empty("var-run-argo", "tmp-dir-argo", "kfp-launcher", *(f"{s}-scratch" for s in SCRATCH)),
            *volumes,
        ],
    }
    if selector := asked.get("nodeSelector"):
        spec["nodeSelector"] = _value(selector["nodeSelectorJson"], allocation)
    spec["tolerations"] = [
        t for entry in asked.get("tolerations", []) for t in _value(entry["tolerationJson"], allocation)
    ]
    spec["imagePullSecrets"] = [{"name": entry["secretName"]} for entry in asked.get("imagePullSecret", [])]
    return {"metadata": _metadata(name, asked.get("podMetadata", {})), "spec": spec}


def driver_pod(name: str) -> Object:
    """Return the pod of a driver, of which there is one beside each step."""
    limits = {"cpu": "500m", "memory": "512Mi"}
    main = {
        "name": "main",
        "image": "ghcr.io/kubeflow/kfp-driver:2.17.0",
        "command": [*EMISSARY, "driver"],
        "env": _fields("KFP_POD_"),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": limits},
        "securityContext": {"runAsNonRoot": True, **HARDENED},
        "volumeMounts": [ARGO],
    }
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_argoexec("init")],
        "containers": [_argoexec("wait"), main],
        "volumes": _empty("var-run-argo", "tmp-dir-argo"),
    }
    return {"metadata": _metadata(name, {}), "spec": spec}


def _metadata(name: str, asked: Object) -> Object:
    argo = {"workflows.argoproj.io/workflow": "run-x7k2p", "workflows.argoproj.io/completed": "false"}
    node = {"workflows.argoproj.io/node-name": "run-x7k2p.root.step.executor(0)"}
    kfp = {"pipelines.kubeflow.org/v2_component": "true"}
    return {
        "name": name,
        "labels": {**argo, **kfp, "pipeline/runid": RUN_ID, **asked.get("labels", {})},
        "annotations": {**node, **kfp, **asked.get("annotations", {})},
    }


def _argoexec(name: str) -> Object:
    mounts = [ARGO] if name == "init" else [{"name": "tmp-dir-argo", "mountPath": "/tmp", "subPath": "0"}, ARGO]
    return {
        "name": name,
        "image": "quay.io/argoproj/argoexec:v4.0.5",
        "imagePullPolicy": "IfNotPresent",
        "command": ["argoexec", name],
        "env": _fields("ARGO_POD_"),
        "securityContext": EXECUTOR,
        "volumeMounts": mounts,
    }


def _launcher() -> Object:
    return {
        "name": "kfp-launcher",
        "image": "ghcr.io/kubeflow/kfp-launcher:2.17.0",
        "command": ["launcher-v2", "--copy", "/kfp-launcher/launch"],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        "securityContext": {"runAsNonRoot": True, **HARDENED},
        "volumeMounts": [LAUNCHER, ARGO],
    }


def _security(asked: Object) -> Object:
    """Return what the compiler has set, with what the step asks for; the protocol writes numbers as texts."""
    own = dict(asked.get("securityContext", {}))
    own |= {key: int(own[key]) for key in ("runAsUser", "runAsGroup") if key in own}
    return {**HARDENED, **own}


def _environment(container: Object, asked: Object, allocation: Allocation) -> list[Object]:
    found = [{"name": entry["name"], "value": entry["value"]} for entry in container.get("env", [])]
    for place, reference, key in (
        ("secretAsEnv", "secretKeyRef", "secretKey"),
        ("configMapAsEnv", "configMapKeyRef", "configMapKey"),
    ):
        for source in asked.get(place, []):
            name = _value(
                source["secretNameParameter" if place == "secretAsEnv" else "configMapNameParameter"], allocation
            )
            for entry in source["keyToEnv"]:
                chosen = {"name": name, "key": entry[key], "optional": source["optional"]}
                found.append({"name": entry["envVar"], "valueFrom": {reference: chosen}})
    for field in asked.get("fieldPathAsEnv", []):
        found.append({"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}})
    return found


def _fields(prefix: str) -> list[Object]:
    paths = {"NAME": "metadata.name", "UID": "metadata.uid"}
    return [{"name": prefix + name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]


def _resources(asked: Object, allocation: Allocation) -> Object:
    names = {"Cpu": "cpu", "Memory": "memory"}
    found: Object = {
        kind: {n: _text(asked[key], allocation) for k, n in names.items() if (key := f"resource{k}{short}") in asked}
        for kind, short in (("limits", "Limit"), ("requests", "Request"))
    }
    if device := asked.get("accelerator"):
        kind = _text(device["resourceType"], allocation)
        if kind:
            found["limits"][kind] = _text(device["resourceCount"], allocation)
    return found


def _volumes(asked: Object) -> tuple[list[Object], list[Object]]:
    volumes, mounts = [], []
    for entry in asked.get("pvcMount", []):
        claim = entry["pvcNameParameter"]["runtimeValue"]["constant"]
        volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": claim, "mountPath": entry["mountPath"]})
    for entry in asked.get("emptyDirMounts", []):
        volumes.append(
            {"name": entry["volumeName"], "emptyDir": {"medium": entry["medium"], "sizeLimit": entry["sizeLimit"]}}
        )
        mounts.append({"name": entry["volumeName"], "mountPath": entry["mountPath"]})
    return volumes, mounts


def _empty(*names: str) -> list[Object]:
    return [{"name": name, "emptyDir": {}} for name in names]


def _scratch_mounts() -> list[Object]:
    return [{"name": f"{name}-scratch", "mountPath": f"/{name.replace('dot-', '.')}"} for name in SCRATCH]


def _text(template: str, allocation: Allocation) -> str:
    """Return a resource with the placeholder of `allocate`'s output replaced."""
    return re.sub(
        r"\{\{\$\.inputs\.parameters\['pipelinechannel--allocate-(\w+)'\]\}\}",
        lambda found: str(getattr(allocation, found[1])),
        template,
    )


def _value(reference: Object, allocation: Allocation) -> Any:
    """Return a constant, or an output of `allocate`, from the same DAG or handed into a loop."""
    if "runtimeValue" in reference:
        return reference["runtimeValue"]["constant"]
    output = reference.get("taskOutputParameter", {}).get("outputParameterKey")
    name = output or reference["componentInputParameter"].removeprefix("pipelinechannel--allocate-")
    return getattr(allocation, name)
