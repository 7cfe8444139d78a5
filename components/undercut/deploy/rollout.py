"""Bring a released model into service: the first one at once, the next ones by a canary that can fail.

Every step starts from what the cluster says, and names derive from the model's name and digest: a run that
died in the middle is carried on by the next one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from undercut import events
from undercut.deploy import canary
from undercut.deploy.changes import edit, go_back, present, withdraw_canary
from undercut.deploy.cluster import Cluster, Conflict, DeploymentError
from undercut.deploy.inference_service import (
    MODE_ANNOTATION,
    NAME_LABEL,
    OWNER_LABELS,
    Object,
    Served,
    inference_service,
    model_of,
    service_name,
    stable_predictor,
)
from undercut.deploy.load_check import LoadCheckError, load_check
from undercut.deploy.readiness import Wanted, is_ready, wait_until_ready
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import NoAnswerError, SmokeTestError, smoke_test_at
from undercut.deploy.stages import report
from undercut.deploy.targets import Rollout
from undercut.errors import ConfigurationError
from undercut.predictors import Predictor

PAUSE_SECONDS = 5.0
# How long a Service's name and endpoints may take to be known everywhere.
SETTLE_SECONDS = 30.0
FIRST, ALREADY, PODS = "first deployment", "it serves this model already", "waiting for the pods"


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """A rollout under way: where, what, and what it must answer.

    ``texts`` are asked of the served model; ``predictor`` is the same model in this process.
    """

    cluster: Cluster
    config: DeployConfig
    served: Served
    texts: Sequence[str]
    predictor: Predictor
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The InferenceService's name."""
        return service_name(self.config.model_name)

    @property
    def mode(self) -> canary.Mode:
        """How its deployment mode tests a second model."""
        return canary.MODES[self.config.mode]


def roll_out(rolling: Rolling) -> Rollout:
    """Make the model the one that the InferenceService serves.

    Returns:
        A rollout that serves, or one that was taken back because the model answered wrongly or too slowly.

    Raises:
        NotReadyError: pods did not become ready; what was there before serves on.
        DeploymentError: the cluster refuses, or another deployment changes the same service.
        ConfigurationError: the service account may not do this, there is no KServe, or the mode is another.
    """
    rolling.record.update(namespace=rolling.cluster.namespace, service=rolling.name, mode=rolling.config.mode)
    rolling.record.update(release=rolling.served.uri, split=None, smoke_test=None, load_check=None, rollback="")
    live = present(rolling.cluster, rolling.config)
    if live is None:
        return _first(rolling)
    _check_service(rolling, live)
    before = canary.stable_of(live)
    if model_of(before)[0] != rolling.served.label:
        return _by_canary(rolling, before)
    withdraw_canary(rolling.cluster, rolling.config)
    replicas = before.get("minReplicas", 1)  # not the settings': those come with the next model
    return _untested(rolling, replicas) if canary.is_untested(live) else _serving(rolling, ALREADY, replicas)


def _check_service(rolling: Rolling, live: Object) -> None:
    labels = live["metadata"].get("labels", {})
    if not labels.items() >= OWNER_LABELS.items():
        allowed = f"a name whose InferenceService ({rolling.name}) Undercut has made"
        raise ConfigurationError("model_name", rolling.config.model_name, allowed, "Give another name or namespace")
    found = live["metadata"].get("annotations", {}).get(MODE_ANNOTATION, "")
    if found != rolling.config.mode:
        remedy = f"KServe does not change it: delete InferenceService {rolling.name}, or set the mode that it has"
        raise ConfigurationError("mode", rolling.config.mode, f"the service's own, {found or 'not annotated'}", remedy)


def _first(rolling: Rolling) -> Rollout:
    events.message(f"InferenceService {rolling.name} is new in namespace {rolling.cluster.namespace}")
    content = inference_service(rolling.config, rolling.cluster.namespace, rolling.served)
    try:
        rolling.cluster.create(canary.untested(content))
    except Conflict as error:  # of another deployment, or of this one, where the answer to the request was lost
        live = rolling.cluster.get(rolling.name)
        if live is None or not (canary.is_untested(live) and _is_stable(rolling, live)):
            raise DeploymentError(f"another deployment made InferenceService {rolling.name}: run again") from error
    return _untested(rolling, rolling.config.min_replicas)


def _untested(rolling: Rolling, replicas: int) -> Rollout:
    """Test a first deployment, perhaps one that an earlier run has left; if it fails, nothing is left of it."""
    try:
        rollout = _serving(rolling, FIRST, replicas)
        edit(rolling.cluster, rolling.config, canary.tested)
        return rollout
    except (SmokeTestError, LoadCheckError, DeploymentError, ConfigurationError) as error:
        live = rolling.cluster.get(rolling.name)
        if live and _is_stable(rolling, live):
            events.message(f"deleting InferenceService {rolling.name}, which has no model to go back to: {error}")
            rolling.cluster.delete(rolling.name)
        return _refused(rolling, error)


def _is_stable(rolling: Rolling, live: Object) -> bool:
    """Return whether the model is the service's, and no other is under test."""
    return model_of(canary.stable_of(live))[0] == rolling.served.label and not rolling.mode.canary(live)


def _serving(rolling: Rolling, how: str, replicas: int) -> Rollout:
    """Wait for the stable predictor, and test it.

    A canary has stood the load already. For a moment after a promotion the Service may lead to a pod of the
    model from before: wrong answers count only if they stay.
    """
    service, promoted = f"{rolling.name}-predictor", rolling.record["split"] is not None
    live = _wait(rolling, service, replicas, is_ready, "promoting" if promoted else PODS)
    url = canary.address(live, service)
    _ask(rolling, url, SmokeTestError if promoted else NoAnswerError)
    if how == FIRST:
        _load(rolling, url)
    rolling.record.update(how=how, url=live["status"].get("url", ""), cluster_url=live["status"]["address"]["url"])
    return Rollout(record=rolling.record)


def _by_canary(rolling: Rolling, before: Object) -> Rollout:
    try:
        _run_canary(rolling)
        edit(rolling.cluster, rolling.config, lambda live: _promoted(rolling, live))
        return _serving(rolling, "promoted from canary", rolling.config.min_replicas)
    except (SmokeTestError, LoadCheckError, DeploymentError, ConfigurationError) as error:
        live = rolling.cluster.get(rolling.name)
        if live and rolling.served.label in (rolling.mode.canary(live), model_of(canary.stable_of(live))[0]):
            events.message(f"rolling {rolling.name} back: {error}")
            go_back(rolling.cluster, rolling.config, before)
        return _refused(rolling, error)


def _run_canary(rolling: Rolling) -> None:
    """Start the canary unseen, test it at its own Service, then let it take its share for a while."""
    config, mode, served = rolling.config, rolling.mode, rolling.served
    split, service = mode.split(config), mode.canary_service(rolling.name, served)
    rolling.record["split"] = asdict(split)
    events.message(f"canary {served.canary}: {split.wished:g} % wished, {split.attained:.0f} % of the {mode.parts}")
    edit(rolling.cluster, config, lambda live: mode.with_canary(live, config, served, 0))
    live = _wait(rolling, service, split.replicas, lambda live: mode.is_ready(live, served), PODS)
    url = canary.address(live, service)
    _ask(rolling, url, NoAnswerError)
    _load(rolling, url)
    if not (percent := config.canary_percent):
        return
    edit(rolling.cluster, config, lambda live: mode.with_canary(_own(rolling, live), config, served, percent))
    events.message(f"canary {served.canary} takes {percent} % for {config.canary_seconds} s")
    until = time.monotonic() + config.canary_seconds
    while (left := until - time.monotonic()) > 0:
        report("watching the canary", 1 - left / config.canary_seconds)
        time.sleep(min(PAUSE_SECONDS, left))
        _smoke_test(rolling, url)


def _promoted(rolling: Rolling, live: Object) -> Object:
    """Return the object with the canary's model alone, as it may be already: the answer to the change was lost."""
    found = live if _is_stable(rolling, live) else _own(rolling, live)
    return canary.alone(found, rolling.config, stable_predictor(rolling.config, rolling.served))


def _own(rolling: Rolling, live: Object) -> Object:
    """Return the object, whose canary is still this rollout's."""
    found = rolling.mode.canary(live)
    if found != rolling.served.label:
        now = f"canary {found[:8]}" if found else "no canary"
        raise DeploymentError(f"another deployment changed InferenceService {rolling.name}: it has {now} now")
    return live


def _wait(rolling: Rolling, service: str, replicas: int, ready: Callable[[Object], bool], stage: str) -> Object:
    labels = {NAME_LABEL: rolling.name, **rolling.mode.pods(service)}
    wanted = Wanted(
        name=rolling.name,
        labels=labels,
        model=rolling.served.label,
        alone=bool(rolling.mode.pods(service)),
        replicas=replicas,
        ready=ready,
        stage=stage,
    )
    return wait_until_ready(rolling.cluster, wanted, rolling.config.ready_seconds)


def _ask(rolling: Rolling, url: str, passing: type[SmokeTestError]) -> None:
    """Do the smoke test; a failure that may be ``passing`` is tried again for a while."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            rolling.record["smoke_test"] = _smoke_test(rolling, url)
        except passing as error:
            if time.monotonic() > until:
                raise
            events.message(f"again in {PAUSE_SECONDS:g} s: {error}")
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _smoke_test(rolling: Rolling, url: str) -> dict[str, Any]:
    return smoke_test_at(url, rolling.name, rolling.served.digest, rolling.texts, rolling.predictor)


def _load(rolling: Rolling, url: str) -> None:
    report("testing the pods")
    try:
        figures = load_check(url, rolling.name, rolling.texts, rolling.predictor, rolling.config)
    except LoadCheckError as error:
        rolling.record["load_check"] = error.figures
        raise
    rolling.record["load_check"] = figures
    for name in ("p50_ms", "p95_ms", "requests_per_second", "error_share"):
        events.metric(f"load_check_{name}", figures[name])


def _refused(rolling: Rolling, error: Exception) -> Rollout:
    """Return a rollback that is the model's own fault; any other failure is the step's."""
    if isinstance(error, SmokeTestError | LoadCheckError):
        rolling.record["rollback"] = str(error)
        return Rollout(serving=False, rollback=str(error), record=rolling.record)
    raise error
