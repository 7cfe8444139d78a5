"""Changes to the InferenceService that is there: a new version in the place of the one that was read."""

import time
from collections.abc import Callable

from undercut import events
from undercut.deploy import canary
from undercut.deploy.cluster import Cluster, Conflict, DeploymentError
from undercut.deploy.inference_service import NAME_LABEL, Object, model_of, service_name
from undercut.deploy.readiness import Wanted, wait_until_ready
from undercut.deploy.settings import DeployConfig

ATTEMPTS = 5
PAUSE_SECONDS = 2.0


def present(cluster: Cluster, config: DeployConfig) -> Object | None:
    """Return the object, or None; one that is being deleted is waited for until it is gone.

    Raises:
        DeploymentError: that takes longer than pods may take to become ready.
    """
    name, until = service_name(config.model_name), time.monotonic() + config.ready_seconds
    while (live := cluster.get(name)) and live["metadata"].get("deletionTimestamp"):
        if time.monotonic() > until:
            held = ", ".join(live["metadata"].get("finalizers", [])) or "none"
            raise DeploymentError(f"InferenceService {name} is still being deleted (its finalizers: {held})")
        events.message(f"waiting until InferenceService {name} of an earlier deployment is deleted")
        time.sleep(min(PAUSE_SECONDS, config.ready_seconds))
    return live


def go_back(cluster: Cluster, config: DeployConfig, before: Object) -> None:
    """Have ``before`` serve alone again."""
    *steps, last = canary.MODES[config.mode].ways_back(before)
    for predictor in steps:
        _step_back(cluster, config, before, predictor)
    edit(cluster, config, lambda live: canary.alone(live, config, last))


def _step_back(cluster: Cluster, config: DeployConfig, before: Object, predictor: Object) -> None:
    """Have the model from before in a revision of its own (Knative), and wait for that."""
    name = service_name(config.model_name)
    unwanted = canary.newest_revision(cluster.get(name) or {})
    edit(cluster, config, lambda live: canary.alone(live, config, predictor))

    def ready(live: Object) -> bool:
        newest = canary.newest_revision(live)
        return newest != unwanted and newest == canary.newest_revision(live, "latestReadyRevision")

    wanted = Wanted(
        name=name, labels={NAME_LABEL: name}, model=model_of(before)[0], replicas=1, ready=ready, stage="promoting"
    )
    wait_until_ready(cluster, wanted, config.ready_seconds)


def edit(cluster: Cluster, config: DeployConfig, change: Callable[[Object], Object]) -> None:
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


def withdraw_canary(cluster: Cluster, config: DeployConfig) -> None:
    """Take back the canary that a run has left which died in the middle, if there is one."""
    live, mode = cluster.get(service_name(config.model_name)), canary.MODES[config.mode]
    if live is not None and mode.canary(live):
        events.message(f"canary {mode.canary(live)[:8]} was left by an earlier run: it is taken back")
        go_back(cluster, config, canary.stable_of(live))


def note_another(cluster: Cluster, config: DeployConfig, champion: str) -> None:
    """Say so where the service has another model than the registry's champion (its digest).

    A deployment has died between its last change to the service and the alias, and was not run again.
    """
    live = cluster.get(service_name(config.model_name))
    found = model_of(canary.stable_of(live))[0] if live is not None else ""
    if found and not champion.startswith(found):
        words = f"InferenceService {service_name(config.model_name)} serves model {found[:12]}"
        events.message(f"{words}, the registry's champion is {champion[:12]}: deploy the one or the other again")
