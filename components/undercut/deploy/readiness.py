"""Wait until the pods of a model serve, and say what they say where they do not."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from undercut import events
from undercut.deploy.cluster import Cluster, DeploymentError, Unreachable
from undercut.deploy.inference_service import MODEL_LABEL, Object
from undercut.deploy.stages import report

POLL_SECONDS = 2.0
# A container that came down this often will not stay up.
RESTARTS = 3


class NotReadyError(DeploymentError):
    """The pods did not become ready in time; the message says what they say."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is waited for: ``replicas`` ready pods of a ``model`` (short digest), and the object's word for it.

    ``labels`` are those of the pods looked at; where the model is to be ``alone``, none of them may be another's.
    ``stage`` is what the person watching is told.
    """

    name: str
    labels: dict[str, str]
    model: str
    replicas: int
    ready: Callable[[Object], bool]
    alone: bool = False
    stage: str = "waiting for the pods"


def is_ready(live: Object) -> bool:
    """Return whether the InferenceService's stable predictor is ready, and the way to it."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in live.get("status", {}).get("conditions", []))


def has_address(live: Object) -> bool:
    """Return whether KServe has written where the service is."""
    return bool(live.get("status", {}).get("address", {}).get("url"))


def wait_until_ready(cluster: Cluster, wanted: Wanted, seconds: float) -> Object:
    """Return the InferenceService once what is wanted is there.

    Raises:
        NotReadyError: it took longer, a container keeps failing, or the object is gone.
    """
    started, told, reasons = time.monotonic(), "", ["nothing yet"]
    while (elapsed := time.monotonic() - started) < seconds:
        report(wanted.stage, min(elapsed / seconds, 0.99))
        try:
            live, found = cluster.get(wanted.name), cluster.pods(wanted.labels)
        except Unreachable as error:
            reasons = [str(error)]
        else:
            if live is None:
                raise NotReadyError(f"InferenceService {wanted.name} was deleted meanwhile")
            pods = [pod for pod in found if pod.metadata.labels.get(MODEL_LABEL) == wanted.model]
            settled = not wanted.alone or len(pods) == len(found)
            if has_address(live) and wanted.ready(live) and settled and _ready_pods(pods) >= wanted.replicas:
                return live
            reasons = [*_words(pods, found, wanted), *_object_words(live)] or ["nothing yet"]
            if any(_is_failing(pod) for pod in pods):
                raise NotReadyError(f"{wanted.name} keeps failing: {'; '.join(reasons)}")
        if reasons[0] != told:
            told = reasons[0]
            events.message(f"waiting for {wanted.name}: {told}")
        time.sleep(min(POLL_SECONDS, seconds / 20))
    raise NotReadyError(f"{wanted.name} was not ready within {seconds:g} s: {'; '.join(reasons)}")


def _ready_pods(pods: Sequence[Any]) -> int:
    conditions = [condition for pod in pods for condition in pod.status.conditions or []]
    return sum(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def _words(pods: Sequence[Any], found: Sequence[Any], wanted: Wanted) -> Iterator[str]:
    for pod in pods:
        yield from _pod_words(pod)
    if wanted.alone and len(pods) < len(found):
        yield f"{len(found) - len(pods)} of {len(found)} pods are of another model"
    elif pods:
        yield f"{_ready_pods(pods)} of {max(wanted.replicas, len(pods))} pods are ready"


def _containers(pod: Any) -> list[Any]:
    return [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]


def _is_failing(pod: Any) -> bool:
    return any(container.restart_count >= RESTARTS and not container.ready for container in _containers(pod))


def _pod_words(pod: Any) -> Iterator[str]:
    """Yield what keeps a pod from being ready: where it cannot run, and what its containers wait for or died of."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"pod {pod.metadata.name} is not scheduled: {condition.message or condition.reason}"
    for container in _containers(pod):
        place = f"pod {pod.metadata.name}, container {container.name}"
        waiting = container.state.waiting if container.state else None
        ended = (container.last_state and container.last_state.terminated) or (
            container.state and container.state.terminated
        )
        if waiting and waiting.reason != "PodInitializing":
            yield f"{place}: {waiting.reason}" + (f" ({waiting.message})" if waiting.message else "")
        if ended and ended.exit_code:
            said = (ended.message or ended.reason or "").strip()[-500:]
            yield f"{place} ended with code {ended.exit_code}" + (f": {said}" if said else "")


def _object_words(live: Object) -> Iterator[str]:
    status = live.get("status", {})
    failure = status.get("modelStatus", {}).get("lastFailureInfo") or {}
    if failure:
        yield f"KServe: {failure.get('reason', 'failure')}: {failure.get('message', '')}"
    for condition in status.get("conditions", []):
        if condition["status"] == "False" and condition.get("message"):
            yield f"KServe: {condition['type']}: {condition['message']}"
