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
from undercut.deploy.cluster import Cluster, Conflict, DeploymentError
from undercut.deploy.inference_service import (
    MODE_ANNOTATION,
    MODEL_LABEL,
    NAME_LABEL,
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
from undercut.deploy.smoke_test import SmokeTestError, smoke_test_at
from undercut.deploy.targets import Rollout
from undercut.errors import ConfigurationError
from undercut.predictors import Predictor

ATTEMPTS = 5
SOAK_SECONDS = 5.0


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
    live = rolling.cluster.get(rolling.name)
    if live is None:
        return _first(rolling)
    _check_mode(rolling, live)
    before = canary.stable_of(live)
    if model_of(before)[0] != rolling.served.label:
        return _by_canary(rolling, before)
    withdraw_canary(rolling.cluster, rolling.config)
    return _serving(rolling, "it serves this model already")


def withdraw_canary(cluster: Cluster, config: DeployConfig) -> None:
    """Take back the canary that a run has left which died in the middle, if there is one."""
    live, mode = cluster.get(service_name(config.model_name)), canary.MODES[config.mode]
    if live is not None and mode.canary(live):
        events.message(f"canary {mode.canary(live)[:8]} was left by an earlier run: it is taken back")
        _go_back(cluster, config, canary.stable_of(live))


def _check_mode(rolling: Rolling, live: Object) -> None:
    found = live["metadata"].get("annotations", {}).get(MODE_ANNOTATION, "")
    if found != rolling.config.mode:
        remedy = f"KServe does not change it: delete InferenceService {rolling.name}, or set the mode that it has"
        raise ConfigurationError("mode", rolling.config.mode, f"the service's own, {found or 'not annotated'}", remedy)


def _first(rolling: Rolling) -> Rollout:
    events.message(f"InferenceService {rolling.name} is new in namespace {rolling.cluster.namespace}")
    try:
        rolling.cluster.create(inference_service(rolling.config, rolling.cluster.namespace, rolling.served))
    except Conflict as error:
        raise DeploymentError(f"another deployment made InferenceService {rolling.name}: run again") from error
    try:
        return _serving(rolling, "first deployment")
    except (SmokeTestError, LoadCheckError, DeploymentError, ConfigurationError) as error:
        events.message(f"deleting InferenceService {rolling.name}, which has no model to go back to: {error}")
        rolling.cluster.delete(rolling.name)
        return _refused(rolling, error)


def _serving(rolling: Rolling, how: str) -> Rollout:
    """Wait for the stable predictor, and test it."""
    service = f"{rolling.name}-predictor"
    live = _wait(rolling, service, rolling.config.min_replicas, is_ready)
    _test(rolling, canary.address(live, service))
    status = live["status"]
    rolling.record.update(how=how, url=status.get("url", ""), cluster_url=status["address"]["url"])
    return Rollout(record=rolling.record)


def _by_canary(rolling: Rolling, before: Object) -> Rollout:
    try:
        _run_canary(rolling)
        config, predictor = rolling.config, stable_predictor(rolling.config, rolling.served)
        _edit(rolling.cluster, config, lambda live: canary.alone(_own(rolling, live), config, predictor))
        return _serving(rolling, "promoted from canary")
    except (SmokeTestError, LoadCheckError, DeploymentError, ConfigurationError) as error:
        live = rolling.cluster.get(rolling.name)
        if live and rolling.served.label in (rolling.mode.canary(live), model_of(canary.stable_of(live))[0]):
            events.message(f"rolling {rolling.name} back: {error}")
            _go_back(rolling.cluster, rolling.config, before)
        return _refused(rolling, error)


def _run_canary(rolling: Rolling) -> None:
    """Start the canary unseen, test it at its own Service, then let it take its share for a while."""
    config, mode, served = rolling.config, rolling.mode, rolling.served
    split, service = mode.split(config), mode.canary_service(rolling.name, served)
    rolling.record["split"] = asdict(split)
    shares = f"{split.wished:g} % of the requests wished, {split.attained:.0f} % attained"
    events.message(f"canary {served.canary} of {rolling.name}: {shares}")
    _edit(rolling.cluster, config, lambda live: mode.with_canary(live, config, served, 0))
    live = _wait(rolling, service, split.replicas, lambda live: is_ready(live) and mode.is_ready(live, served))
    url = canary.address(live, service)
    _test(rolling, url)
    if not config.canary_percent:
        return
    percent = config.canary_percent
    _edit(rolling.cluster, config, lambda live: mode.with_canary(_own(rolling, live), config, served, percent))
    events.message(f"canary {served.canary} takes {percent} % for {config.canary_seconds} s")
    until = time.monotonic() + config.canary_seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(SOAK_SECONDS, left))
        smoke_test_at(url, rolling.name, rolling.texts, rolling.predictor)


def _own(rolling: Rolling, live: Object) -> Object:
    """Return the object, whose canary is still this rollout's."""
    found = rolling.mode.canary(live)
    if found != rolling.served.label:
        now = f"canary {found[:8]}" if found else "no canary"
        raise DeploymentError(f"another deployment changed InferenceService {rolling.name}: it has {now} now")
    return live


def _wait(rolling: Rolling, service: str, replicas: int, ready: Callable[[Object], bool]) -> Object:
    labels = {NAME_LABEL: rolling.name, MODEL_LABEL: rolling.served.label, **rolling.mode.pods(service)}
    wanted = Wanted(name=rolling.name, labels=labels, replicas=replicas, ready=ready)
    return wait_until_ready(rolling.cluster, wanted, rolling.config.ready_seconds)


def _test(rolling: Rolling, url: str) -> None:
    rolling.record["smoke_test"] = smoke_test_at(url, rolling.name, rolling.texts, rolling.predictor)
    try:
        figures = load_check(url, rolling.name, rolling.texts, rolling.predictor, rolling.config)
    except LoadCheckError as error:
        rolling.record["load_check"] = error.figures
        raise
    rolling.record["load_check"] = figures


def _go_back(cluster: Cluster, config: DeployConfig, before: Object) -> None:
    """Have ``before`` serve alone again."""
    *steps, last = canary.MODES[config.mode].ways_back(before)
    for predictor in steps:
        _step_back(cluster, config, before, predictor)
    _edit(cluster, config, lambda live: canary.alone(live, config, last))


def _step_back(cluster: Cluster, config: DeployConfig, before: Object, predictor: Object) -> None:
    """Have the model from before in a revision of its own (Knative), and wait for that."""
    name = service_name(config.model_name)
    unwanted = canary.newest_revision(cluster.get(name) or {})
    _edit(cluster, config, lambda live: canary.alone(live, config, predictor))

    def ready(live: Object) -> bool:
        newest = canary.newest_revision(live)
        return newest != unwanted and newest == canary.newest_revision(live, "latestReadyRevision")

    labels = {NAME_LABEL: name, MODEL_LABEL: model_of(before)[0]}
    wanted = Wanted(name=name, labels=labels, replicas=1, ready=ready)
    wait_until_ready(cluster, wanted, config.ready_seconds)


def _edit(cluster: Cluster, config: DeployConfig, change: Callable[[Object], Object]) -> None:
    """Change the object as it is now; again where its status was written in between."""
    name = service_name(config.model_name)
    for _ in range(ATTEMPTS):
        live = cluster.get(name)
        if live is None:
            raise DeploymentError(f"InferenceService {name} was deleted meanwhile")
        try:
            cluster.replace(change(live))
        except Conflict:
            continue
        return
    raise DeploymentError(f"InferenceService {name} changed {ATTEMPTS} times while it was edited: run again")


def _refused(rolling: Rolling, error: Exception) -> Rollout:
    """Return a rollback that is the model's own fault; any other failure is the step's."""
    if isinstance(error, SmokeTestError | LoadCheckError):
        rolling.record["rollback"] = str(error)
        return Rollout(serving=False, rollback=str(error), record=rolling.record)
    raise error
