"""The first node's log, repeated by the step that waits for it: events as events, other lines as they are."""

import json
import math
import re
import sys
import time
from collections import deque
from typing import Any

from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from undercut import events
from undercut.cluster.trainjob_body import NODE

KEPT_LINES = 40
_INDEX = "batch.kubernetes.io/job-completion-index"
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT")


def _own() -> dict[str, str]:
    return {name: value for name, value in events.current().items() if value}


class NodeLog:
    """Reads the log of node 0 since the last line that was read, whatever pod writes it now.

    Args:
        api: a connection.
        namespace: the TrainJob's.
        job: the TrainJob's name; its JobSet has the same.
    """

    def __init__(self, api: kubernetes.CoreV1Api, namespace: str, job: str) -> None:
        self._api, self._namespace = api, namespace
        self._nodes = f"jobset.sigs.k8s.io/jobset-name={job},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
        self._first = f"{self._nodes},{_INDEX}=0"
        self._pod: Any = None
        self._uid, self._last, self._read = "", "", 0.0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def phase(self) -> str:
        """Return what the pod is doing, in words."""
        if self._pod is None:
            return "waiting for its pods"
        for state in self._pod.status.container_statuses or []:
            if state.state.waiting and state.state.waiting.reason:
                return f"node 0 waits: {state.state.waiting.reason}"
        for condition in self._pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                return f"node 0 waits: {condition.message or condition.reason}"
        return f"node 0 is {self._pod.status.phase.lower()}"

    def repeat(self) -> None:
        """Report what was written since the last time; nothing, if the log cannot be had right now."""
        try:
            pods = self._api.list_namespaced_pod(self._namespace, label_selector=self._first, _request_timeout=30).items
            # Of a job that was deleted just now, of the same name, the pods may still be storing their last step.
            pods = [p for p in pods if p.metadata.uid == self._uid or not p.metadata.deletion_timestamp]
            if not pods:
                return
            self._pod = max(pods, key=lambda pod: str(pod.metadata.creation_timestamp or ""))
            if self._pod.metadata.uid != self._uid:
                self._uid, self._last, self._read = self._pod.metadata.uid, "", 0.0
            if self._pod.status.phase == "Pending":
                return
            since = {"since_seconds": math.ceil(time.monotonic() - self._read) + 5} if self._read else {}
            started = time.monotonic()
            text = self._api.read_namespaced_pod_log(
                self._pod.metadata.name,
                self._namespace,
                container=NODE,
                timestamps=True,
                _request_timeout=60,
                _preload_content=False,
                **since,
            ).data.decode(errors="replace")
        except (ApiException, HTTPError) as error:
            events.message(f"the log of node 0 cannot be read right now: {error.__class__.__name__}")
            return
        self._read = started
        # Only a line feed ends a line: a progress bar's carriage returns and a text's own separators do not. What
        # has no time is the kubelet's word and not the pod's.
        stamped = [line.partition(" ") for line in text.split("\n") if _STAMP.match(line)]
        for _, _, words in (line for line in stamped if line[0] > self._last):
            self._repeat_line(words)
        self._last = max([self._last, *(stamp for stamp, _, _ in stamped)])

    def _repeat_line(self, words: str) -> None:
        if words.startswith('{"time"'):
            try:
                event = json.loads(words)
            except ValueError:  # a line that another process wrote into
                event = None
            if isinstance(event, dict) and "type" in event:
                # As this step's own: the job may be that of an earlier attempt, which had another name.
                events.emit(event.pop("type"), **{**event, **_own()})
                return
        self._lines.append(words)
        print(words, file=sys.stderr)

    def last_words(self) -> str:
        """Return which nodes failed and why, as Kubernetes tells it, and what node 0 said last."""
        words = []
        try:
            pods = self._api.list_namespaced_pod(self._namespace, label_selector=self._nodes, _request_timeout=30).items
        except (ApiException, HTTPError):
            pods = [self._pod] if self._pod else []
        for pod in pods:
            for state in pod.status.container_statuses or []:
                if (ended := state.state.terminated) and ended.exit_code:
                    node = pod.metadata.labels.get(_INDEX, "")
                    why = f"{ended.reason}, exit code {ended.exit_code} {ended.message or ''}".strip()
                    words.append(f"node {node}: {why}")
        return "\n".join([*words, *self._lines])
