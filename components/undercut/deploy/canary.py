"""What a canary looks like in each of KServe's deployment modes, as changes to a live InferenceService.

Standard has ``spec.canary`` beside the stable predictor. Knative has one predictor, whose
``canaryTrafficPercent`` goes to its newest revision. In both, an annotation keeps the predictor from
before, so that a rollback, or the next run after a crash, knows what to go back to.

https://github.com/kserve/kserve/blob/master/pkg/apis/serving/v1beta1/inference_service.go (CanarySpec)
https://kserve.github.io/website/docs/model-serving/predictive-inference/rollout-strategies/canary
"""

import copy
import json
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from undercut.deploy.inference_service import (
    MODE_ANNOTATION,
    TAGS_ANNOTATION,
    Object,
    Served,
    canary_entry,
    model_of,
    stable_predictor,
)
from undercut.deploy.settings import DeployConfig
from undercut.deploy.split import Split, plan

BEFORE_ANNOTATION = "undercut/predictor-before"
# On a first deployment that has not passed its tests.
UNTESTED_ANNOTATION = "undercut/untested"


def stable_of(live: Object) -> Object:
    """Return the predictor that is not under test."""
    kept = live["metadata"].get("annotations", {}).get(BEFORE_ANNOTATION)
    found: Object = json.loads(kept) if kept else live["spec"]["predictor"]
    return {key: value for key, value in found.items() if key != "canaryTrafficPercent"}


def untested(content: Object) -> Object:
    """Return the object of a first deployment, marked until its tests are passed."""
    marked = copy.deepcopy(content)
    marked["metadata"]["annotations"][UNTESTED_ANNOTATION] = "true"
    return marked


def tested(live: Object) -> Object:
    """Return the object without the mark."""
    changed = copy.deepcopy(live)
    changed["metadata"].get("annotations", {}).pop(UNTESTED_ANNOTATION, None)
    changed.pop("status", None)
    return changed


def is_untested(live: Object) -> bool:
    """Return whether a first deployment has not passed its tests."""
    return UNTESTED_ANNOTATION in live["metadata"].get("annotations", {})


def alone(live: Object, config: DeployConfig, predictor: Object) -> Object:
    """Return the object with one predictor and no canary."""
    return _changed(live, config, predictor, before=None)


def address(live: Object, service: str) -> str:
    """Return a Service's in-cluster address beside the one that KServe reports.

    The first part of the reported host is the stable Service's name; port and domain hold for all. (A headless
    Service is reached at the container's port, which KServe then puts into the address.)
    """
    parts = urlsplit(live["status"]["address"]["url"])
    host = f"{service}.{(parts.hostname or '').partition('.')[2]}"
    return str(urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, "", "", "")))


def newest_revision(live: Object, which: str = "latestCreatedRevision") -> str:
    """Return the name of Knative's newest revision, or of the newest ready one; empty if there is none."""
    return str(live.get("status", {}).get("components", {}).get("predictor", {}).get(which, ""))


class Mode(Protocol):
    """How one deployment mode tests a second model.

    ``parts`` says what the canary's share is a share of.
    """

    parts: str

    def split(self, config: DeployConfig) -> Split:
        """Return the canary's share, as wished and as attained."""
        ...

    def with_canary(self, live: Object, config: DeployConfig, served: Served, percent: int) -> Object:
        """Return the object with ``served`` as canary that gets ``percent`` of the requests."""
        ...

    def canary(self, live: Object) -> str:
        """Return the short digest of the canary's model; empty if there is none."""
        ...

    def canary_service(self, name: str, served: Served) -> str:
        """Return the name of the Service that leads to the canary alone."""
        ...

    def pods(self, service: str) -> dict[str, str]:
        """Return the labels that tell a Service's pods from others of the same InferenceService."""
        ...

    def is_ready(self, live: Object, served: Served) -> bool:
        """Return whether KServe says that the canary is ready."""
        ...

    def ways_back(self, before: Object) -> list[Object]:
        """Return the predictors that lead back to ``before``, in turns: each is ready before the next."""
        ...


class Standard:
    """``spec.canary``: Deployments of their own, with fixed replicas."""

    parts = "pods"

    def split(self, config: DeployConfig) -> Split:
        """Return what the replica counts attain."""
        return plan(config.min_replicas, config.canary_percent, config.split)

    def with_canary(self, live: Object, config: DeployConfig, served: Served, percent: int) -> Object:
        """Return the object with an entry in ``spec.canary``; stable keeps its model."""
        split, before = self.split(config), stable_of(live)
        minimum = max(split.minimum, before.get("minReplicas", 1) + split.replicas)
        stable = {**copy.deepcopy(before), "minReplicas": minimum}
        stable["maxReplicas"] = max(minimum, before.get("maxReplicas", 0), config.max_replicas)
        changed = _changed(live, config, stable, before)
        changed["spec"]["canary"] = [canary_entry(config, served, split, percent)]
        return changed

    def canary(self, live: Object) -> str:
        """Return the first entry's model."""
        entries = live["spec"].get("canary") or []
        return model_of(entries[0]["predictor"])[0] if entries else ""

    def canary_service(self, name: str, served: Served) -> str:
        """Return KServe's ``PredictorServiceName``."""
        return f"{name}-{served.canary}-predictor"

    def pods(self, service: str) -> dict[str, str]:
        """Return the label that the Service selects."""
        return {"app": f"isvc.{service}"}

    def is_ready(self, live: Object, served: Served) -> bool:
        """Return what the canary's own entry in the status says."""
        found = live.get("status", {}).get("canaryStatuses", [])
        return any(entry["name"] == served.canary and entry["ready"] for entry in found)

    def ways_back(self, before: Object) -> list[Object]:
        """Return it alone: KServe deletes a canary's Deployment that is not named any more."""
        return [before]


class Knative:
    """``canaryTrafficPercent``: the newest revision against the last one that was rolled out."""

    parts = "requests"

    def split(self, config: DeployConfig) -> Split:
        """Return the wish: Knative splits by request, whatever the replicas."""
        wished = float(config.canary_percent)
        return Split(wished=wished, attained=wished, replicas=1, stable=config.min_replicas, minimum=1)

    def with_canary(self, live: Object, config: DeployConfig, served: Served, percent: int) -> Object:
        """Return the object with the new model as its newest revision."""
        newest = {**stable_predictor(config, served), "canaryTrafficPercent": percent}
        return _changed(live, config, newest, stable_of(live))

    def canary(self, live: Object) -> str:
        """Return the predictor's model while another is kept for the way back."""
        kept = BEFORE_ANNOTATION in live["metadata"].get("annotations", {})
        return model_of(live["spec"]["predictor"])[0] if kept else ""

    def canary_service(self, name: str, served: Served) -> str:
        """Return the Service of the tag ``latest``, which the annotation ``enable-tag-routing`` asks for."""
        return f"latest-{name}-predictor"

    def pods(self, service: str) -> dict[str, str]:
        """Return nothing: the model's label tells revisions apart."""
        return {}

    def is_ready(self, live: Object, served: Served) -> bool:
        """Return whether the newest revision is ready."""
        newest = newest_revision(live)
        return bool(newest) and newest == newest_revision(live, "latestReadyRevision")

    def ways_back(self, before: Object) -> list[Object]:
        """Return it at no share, then alone.

        At once it would hand all requests to the newest *ready* revision, which is the one to get rid of.
        """
        return [{**before, "canaryTrafficPercent": 0}, before]


MODES: dict[str, Mode] = {"Standard": Standard(), "Knative": Knative()}


def _changed(live: Object, config: DeployConfig, predictor: Object, before: Object | None) -> Object:
    """Return the live object with another predictor, no canary, and ``before`` kept in an annotation."""
    changed = copy.deepcopy(live)
    annotations: dict[str, Any] = changed["metadata"].setdefault("annotations", {})
    annotations |= {MODE_ANNOTATION: config.mode, TAGS_ANNOTATION: "true"}
    for name in (BEFORE_ANNOTATION, UNTESTED_ANNOTATION):
        annotations.pop(name, None)
    if before is not None:
        annotations[BEFORE_ANNOTATION] = json.dumps(before, sort_keys=True)
    changed["spec"]["predictor"] = copy.deepcopy(predictor)
    changed["spec"].pop("canary", None)
    changed.pop("status", None)
    return changed
