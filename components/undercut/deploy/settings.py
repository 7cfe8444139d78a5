"""What a deployment is given, checked before anything is registered."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from undercut.deploy.split import plan
from undercut.errors import ConfigurationError
from undercut.hyperparameters import with_hyperparameters
from undercut.resources import QUANTITIES

TARGETS = ("local", "kserve")
MODES = {"Standard": ("cpu", "memory"), "Knative": ("concurrency", "rps")}  # with what each can scale by
SPLITS = ("exact", "raise")
# A quantity of Kubernetes: 2, 500m, 1.5, 8Gi.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """Settings of a deployment; those after ``seed`` are for the target ``kserve``.

    Attributes:
        model_name: name in the registry and in the endpoints' paths.
        target: where it is deployed; ``local`` moves the registry's alias after a test on this machine,
            ``kserve`` after a canary of an InferenceService.
        margin: the challenger is not inferior if the difference's lower end is above minus this (accuracy).
        minimum_saving: the challenger is cheaper if it costs at least this share less, measured side by side.
        seed: of the bootstrap.
        namespace: of the InferenceService; empty is the pod's own.
        mode: KServe's deployment mode, ``Standard`` (Deployments) or ``Knative``.
        runtime: the ServingRuntime that loads model folders.
        service_account: whose Secret KServe's storage initializer reads S3 with.
        min_replicas: pods that always run, at least 1.
        max_replicas: pods at most; equal to ``min_replicas`` where nothing shall scale.
        scale_metric: what the autoscaler looks at; empty leaves it to KServe.
        scale_target: its target value (``cpu``: percent of the request); 0 leaves it to KServe.
        cpu: a pod's CPU, requested and at most.
        memory: a pod's memory, requested and at most.
        accelerator: resource name of the pods' accelerator, for example ``nvidia.com/gpu``; empty for none.
        accelerator_count: accelerators a pod.
        canary_percent: share of the requests that the canary is wished to get, 0 to 99; 0 tests it unseen.
        split: ``exact`` refuses replica counts that miss the wish by more than five points; ``raise`` runs more
            replicas while there is a canary.
        canary_seconds: how long a tested canary takes its share before it is promoted.
        ready_seconds: how long pods may take to become ready.
        load_check_seconds: how long the load check sends requests.
        load_check_clients: how many requests it keeps in flight.
        maximum_p95_ms: 95th percentile of the latency in the load check at most, in milliseconds.
        maximum_error_share: share of requests that may fail in the load check.
        usd_per_hour: a pod's price, for its metric of the price so far; 0 leaves the metric out.
    """

    model_name: str
    target: str = "local"
    margin: float = 0.01
    minimum_saving: float = 0.05
    seed: int = 0
    namespace: str = ""
    mode: str = "Standard"
    runtime: str = "undercut-serve"
    service_account: str = "undercut-serving"
    min_replicas: int = 1
    max_replicas: int = 4
    scale_metric: str = ""
    scale_target: int = 0
    cpu: str = "1"
    memory: str = "1Gi"
    accelerator: str = ""
    accelerator_count: int = 0
    canary_percent: int = 50
    split: str = "exact"
    canary_seconds: int = 60
    ready_seconds: int = 600
    load_check_seconds: int = 10
    load_check_clients: int = 8
    maximum_p95_ms: float = 1000.0
    maximum_error_share: float = 0.0
    usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.model_name):
            allowed = "letters, digits, and . _ - (at most 100 characters)"
            raise ConfigurationError("model_name", self.model_name, allowed, "It becomes part of the endpoints' paths")
        for name, allowed_values in (("target", TARGETS), ("mode", tuple(MODES)), ("split", SPLITS)):
            if getattr(self, name) not in allowed_values:
                raise ConfigurationError(name, getattr(self, name), " or ".join(allowed_values))
        for name in ("margin", "minimum_saving", "maximum_error_share"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigurationError(name, value, "a share from 0 to below 1, for example 0.01")
        self._check_names()
        self._check_numbers()
        if self.mode == "Standard":
            plan(self.min_replicas, self.canary_percent, self.split)

    def _check_names(self) -> None:
        for name in ("runtime", "service_account", *(["namespace"] if self.namespace else [])):
            if not NAME.fullmatch(getattr(self, name)):
                raise ConfigurationError(name, getattr(self, name), "a Kubernetes name: a-z, 0-9, - and .")
        for name, pattern in QUANTITIES.items():
            if not pattern.fullmatch(getattr(self, name)):
                example = {"cpu": "500m or 2", "memory": "512Mi or 8Gi"}[name]
                raise ConfigurationError(name, getattr(self, name), f"a Kubernetes quantity, for example {example}")
        if bool(self.accelerator) != bool(self.accelerator_count):
            remedy = "Set accelerator and accelerator_count together, or neither"
            raise ConfigurationError("accelerator_count", self.accelerator_count, "the accelerator's number", remedy)
        if self.scale_metric and self.scale_metric not in MODES[self.mode]:
            raise ConfigurationError("scale_metric", self.scale_metric, f"empty, {' or '.join(MODES[self.mode])}")

    def _check_numbers(self) -> None:
        lowest = {"min_replicas": 1, "ready_seconds": 1, "load_check_seconds": 1, "load_check_clients": 1}
        lowest |= dict.fromkeys(("accelerator_count", "scale_target", "canary_percent", "canary_seconds"), 0)
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ConfigurationError(name, getattr(self, name), f"a number from {low} on")
        if self.canary_percent > 99:
            raise ConfigurationError("canary_percent", self.canary_percent, "a percentage from 0 to 99")
        if self.max_replicas < self.min_replicas:
            raise ConfigurationError("max_replicas", self.max_replicas, f"at least min_replicas ({self.min_replicas})")
        if not 0 <= self.usd_per_hour < float("inf"):
            raise ConfigurationError("usd_per_hour", self.usd_per_hour, "zero (not exported) or more")
        if self.maximum_p95_ms <= 0:
            raise ConfigurationError("maximum_p95_ms", self.maximum_p95_ms, "a number of milliseconds above 0")


def check_deploy_settings(model_name: str, settings: Mapping[str, Any], name: str = "deploy_settings") -> DeployConfig:
    """Refuse a wrong entry of the mapping that a pipeline gives deploy, before anything is spent.

    Args:
        model_name: the pipeline's own.
        settings: entries that stand in for arguments of deploy, such as ``target``.
        name: the mapping's name in messages.

    Raises:
        ConfigurationError: the first entry that is wrong, such as ``deploy_settings.canary_percent``.
    """
    required = [field.name for field in fields(DeployConfig) if field.default is MISSING]
    for taken in required:
        if taken in settings:
            raise ConfigurationError(f"{name}.{taken}", settings[taken], f"{taken} of the whole run")
    config = DeployConfig(model_name=model_name)
    try:
        return with_hyperparameters(config, settings, name)
    except ConfigurationError as error:
        raise error if error.field.startswith(f"{name}.") else error.within(name) from error
