"""Wait until the pods of a model serve, and say what they say where they do not."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from undercut import events
from undercut.deploy.cluster import Cluster, DeploymentError, Unreachable
from undercut.deploy.inference_service import Object
from undercut.deploy.stages import report

POLL_SECONDS = 2.0
# A container that came down this often will not stay up.
RESTARTS = 3


class NotReadyError(DeploymentError):
    """The pods did not become ready in time; the message says what they say."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is waited for: ``replicas`` ready pods with these ``labels``, and the object's own word for it."""

    name: str
    labels: dict[str, str]
    replicas: int
    ready: Callable[[Object], bool]


def is_ready(live: Object) -> bool:
    """Return whether the InferenceService is ready and has an address."""
    status = live.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    return conditions.get("Ready") == "True" and bool(status.get("address", {}).get("url"))


def wait_until_ready(cluster: Cluster, wanted: Wanted, seconds: float) -> Object:
    """Return the InferenceService once what is wanted is there.

    Raises:
        NotReadyError: it took longer, a container keeps failing, or the object is gone.
    """
    started, told, reasons = time.monotonic(), "", ["nothing yet"]
    while (elapsed := time.monotonic() - started) < seconds:
        report("rolling out", min(elapsed / seconds, 0.99))
        try:
            live, pods = cluster.get(wanted.name), cluster.pods(wanted.labels)
        except Unreachable as error:
            reasons = [str(error)]
        else:
            if live is None:
                raise NotReadyError(f"InferenceService {wanted.name} was deleted meanwhile")
            if wanted.ready(live) and sum(map(_pod_ready, pods)) >= wanted.replicas:
                return live
            reasons = [*(words for pod in pods for words in _pod_words(pod)), *_object_words(live)] or reasons
            if any(_is_failing(pod) for pod in pods):
                raise NotReadyError(f"{wanted.name} keeps failing: {'; '.join(reasons)}")
        if reasons[0] != told:
            told = reasons[0]
            events.message(f"waiting for {wanted.name}: {told}")
        time.sleep(min(POLL_SECONDS, seconds / 20))
    raise NotReadyError(f"{wanted.name} was not ready within {seconds:g} s: {'; '.join(reasons)}")


def _pod_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])


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
