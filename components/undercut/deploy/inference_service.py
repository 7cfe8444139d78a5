"""KServe's InferenceService as plain dictionaries, typed functions in, Kubernetes objects out.

https://kserve.github.io/website/docs/reference/crd-api (v1beta1)
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undercut.deploy.settings import DeployConfig
from undercut.deploy.split import Split

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
MODE_ANNOTATION = f"{GROUP}/deploymentMode"
TAGS_ANNOTATION = f"{GROUP}/enable-tag-routing"
NAME_LABEL = f"{GROUP}/inferenceservice"
MODEL_LABEL = "undercut/model"
# On every pod that serves, for policies to select.
SERVING_LABELS = {"undercut/serving": "true"}
OWNER_LABELS = {"app.kubernetes.io/managed-by": "undercut"}
# A label's value holds 63 characters, and KServe's longest is isvc.NAME-CANARY-predictor.
LONGEST_NAME = 63 - len("isvc.") - len("-c01234567-predictor")

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A released model: its digest, its folder's address, and the model format of the runtime that loads it."""

    digest: str
    uri: str
    model_format: str = "undercut"

    @property
    def label(self) -> str:
        """The digest, short enough for a label's value."""
        return self.digest[:32]

    @property
    def canary(self) -> str:
        """Its name as a canary."""
        return f"c{self.digest[:8]}"


def service_name(model_name: str) -> str:
    """Return the InferenceService's name of a registered model: the same, where Kubernetes takes it."""
    plain = re.sub(r"[^a-z0-9]+", "-", model_name.lower()).strip("-")
    if plain == model_name and plain[0].isalpha() and len(plain) <= LONGEST_NAME:
        return plain
    apart = hashlib.sha256(model_name.encode()).hexdigest()[:6]
    return f"m-{plain[: LONGEST_NAME - 9].strip('-')}-{apart}"


def resources(config: DeployConfig) -> Object:
    """Return a container's requests and limits, which are the same: nothing is promised that is not there."""
    amounts = {"cpu": config.cpu, "memory": config.memory}
    if config.accelerator:
        amounts[config.accelerator] = str(config.accelerator_count)
    return {"requests": amounts, "limits": dict(amounts)}


def undercut_model(config: DeployConfig, served: Served) -> Object:
    """Return the model of our own ServingRuntime, which reads a folder with ``model.json``.

    KServe appends the arguments to the runtime's.
    """
    priced = {"args": [f"--usd-per-hour={config.usd_per_hour:g}"]} if config.usd_per_hour else {}
    return {
        "modelFormat": {"name": served.model_format},
        "runtime": config.runtime,
        "storageUri": served.uri,
        "resources": resources(config),
        **priced,
    }


def huggingface_model(config: DeployConfig, served: Served) -> Object:
    """Return the model of KServe's Hugging Face runtime (vLLM on a GPU), for generators.

    KServe chooses the cluster's runtime for the format; it serves OpenAI's protocol at ``/openai/v1``.
    """
    return {
        "modelFormat": {"name": "huggingface"},
        "storageUri": served.uri,
        "args": [f"--model_name={service_name(config.model_name)}"],
        "resources": resources(config),
    }


def predictor(config: DeployConfig, served: Served) -> Object:
    """Return a predictor without replicas or a name: what stable and canary have in common.

    The label goes to the pods, and tells those of one model from those of another.
    """
    build = huggingface_model if served.model_format == "huggingface" else undercut_model
    return {
        "labels": {**SERVING_LABELS, MODEL_LABEL: served.label},
        "serviceAccountName": config.service_account,
        "model": build(config, served),
    }


def stable_predictor(config: DeployConfig, served: Served) -> Object:
    """Return the predictor that serves, with its autoscaling."""
    scaling: Object = {"minReplicas": config.min_replicas, "maxReplicas": config.max_replicas}
    if config.scale_metric:
        scaling["scaleMetric"] = config.scale_metric
    if config.scale_target:
        scaling["scaleTarget"] = config.scale_target
    return {**predictor(config, served), **scaling}


def canary_entry(config: DeployConfig, served: Served, split: Split, percent: int) -> Object:
    """Return an entry of ``spec.canary``; KServe refuses autoscaling in it.

    The CRD asks for the container's name in a canary's model, and in no other place; empty is KServe's own.
    """
    fixed = {"name": served.canary, "minReplicas": split.replicas, **predictor(config, served)}
    fixed["model"] = {"name": "", **fixed["model"]}
    return {"trafficPercent": percent, "predictor": fixed}


def inference_service(config: DeployConfig, namespace: str, served: Served) -> Object:
    """Return a first deployment: one predictor and no canary."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(config.model_name),
            "namespace": namespace,
            "labels": dict(OWNER_LABELS),
            "annotations": {MODE_ANNOTATION: config.mode, TAGS_ANNOTATION: "true"},
        },
        "spec": {"predictor": stable_predictor(config, served)},
    }


def model_of(a_predictor: Mapping[str, Any]) -> tuple[str, str]:
    """Return the short digest and the address of what a predictor serves; empty where it has none of ours."""
    labels = a_predictor.get("labels") or {}
    return str(labels.get(MODEL_LABEL, "")), str(a_predictor.get("model", {}).get("storageUri", ""))
