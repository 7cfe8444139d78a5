"""A training on several nodes, or on a spot node: a TrainJob of Kubeflow Trainer, started and followed by a step.

The step's pod stays small: it writes what is to be done to the object store, creates the TrainJob, repeats the
workers' events and log lines as its own, and at the end fetches what the first worker has put under the output
artifact's own URI, so that the ledger can be added and KFP's launcher uploads the same content and not an
empty folder.

The TrainJob's name derives from the run and the output's URI, which is the same over all retries of one task and
differs for each task and iteration: a retried step adopts the job of the one before. The job belongs to the
step's pod (``ownerReferences``) and is deleted first of all on SIGTERM: KFP leaves a step one second.
"""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from undercut import events
from undercut.cluster import folders, trainjob_outputs
from undercut.cluster.kubernetes_api import connect, persist, refused
from undercut.cluster.trainjob_body import GROUP, body
from undercut.cluster.trainjob_log import NodeLog
from undercut.errors import ConfigurationError
from undercut.interruption import Terminated
from undercut.launch import Artifact, describe, take_report
from undercut.resources import Resources

POLL_SECONDS = 5.0
NEEDED = ("UNDERCUT_POD", "UNDERCUT_POD_UID", "UNDERCUT_NAMESPACE", "UNDERCUT_RUN_ID", "UNDERCUT_IMAGE")
REMEDY = "Kubeflow Trainer and its TrainingRuntime undercut-train must be installed"


def run(
    training: str,
    wanted: Resources,
    inputs: Mapping[str, Artifact | None],
    outputs: Mapping[str, Artifact],
    arguments: Mapping[str, Any],
) -> None:
    """Train in a TrainJob; see :func:`undercut.launch.launch` for the arguments.

    Raises:
        ConfigurationError: this is no step on a cluster, the cluster refuses, or the training refuses its input.
        RuntimeError: the TrainJob failed; the message has the pod's own words.
        Terminated: this step was told to end; the TrainJob is deleted.
    """
    _check_place()
    uris = {name: folders.s3_uri(a.uri).rstrip("/") + "/" for name, a in [*inputs.items(), *outputs.items()] if a}
    if local := next((f"{name}: {uri}" for name, uri in uris.items() if not folders.is_remote(uri)), ""):
        raise ConfigurationError("resources.nodes", local, "artifacts in an S3 store", "Give KFP's root as minio or s3")
    name = job_name(training, os.environ["UNDERCUT_RUN_ID"], uris[next(iter(outputs))])
    place = f"{_checkpoints()}/jobs/{name}"
    content = {
        **describe(training, arguments, f"{wanted.nodes} nodes"),
        "inputs": {name: uris.get(name) for name in inputs},
        "outputs": {name: uris[name] for name in outputs},
        "report": f"{place}/report.json",
    }
    job = Job(name, body(name, training, f"{place}/worker.json", wanted, os.environ))
    with job.deleted_on_leaving():
        failure = None
        while failure is None:
            while not job.adopt():
                folders.write(f"{place}/report.json", b"{}")
                folders.write(f"{place}/worker.json", json.dumps(content).encode())
                job.create()
            failure = job.follow()
    use = take_report(json.loads(folders.read(f"{place}/report.json") or b"{}"))
    if failure or use is None:
        raise RuntimeError(failure or f"TrainJob {name} is complete, but its first worker left no report")
    trainjob_outputs.fetch(outputs, content["outputs"])
    trainjob_outputs.charge(Path(next(iter(outputs.values())).path), use, wanted)


def job_name(training: str, run_id: str, uri: str) -> str:
    """Return the name that every attempt at the same task of the same run gives its TrainJob."""
    return f"undercut-{training}-{hashlib.sha256(f'{run_id} {uri}'.encode()).hexdigest()[:16]}"


def _check_place() -> None:
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        remedy = "Several nodes and spot nodes need Kubeflow: on one machine set resources.processes"
        raise ConfigurationError("resources.nodes", f"no {missing[0]} here", "1 outside of a cluster", remedy)


def _checkpoints() -> str:
    found = os.environ.get("UNDERCUT_CHECKPOINTS", "")
    if not folders.is_remote(found):
        raise ConfigurationError("UNDERCUT_CHECKPOINTS", found, "s3://bucket/prefix", "Set it in ConfigMap undercut")
    return found.rstrip("/")


class Job:
    """One TrainJob: created or adopted, followed to its end, deleted if the step ends before.

    Args:
        name: its name.
        wanted: the object to create.
    """

    def __init__(self, name: str, wanted: Mapping[str, Any]) -> None:
        self._name, self._body = name, wanted
        self._running = self._adopted = False
        namespace = wanted["metadata"]["namespace"]
        group, version = GROUP
        self._kind = {"group": group, "version": version, "namespace": namespace, "plural": "trainjobs"}
        self._api = client.CustomObjectsApi(connect())
        # The signal may come in the middle of a request on the other connection.
        self._last_api = client.CustomObjectsApi(connect())
        self._log = NodeLog(client.CoreV1Api(connect()), namespace, name)

    @contextlib.contextmanager
    def deleted_on_leaving(self) -> Iterator[None]:
        """Delete the job when the block is left while it runs; on SIGTERM before anything else."""
        before = signal.signal(signal.SIGTERM, self._terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            if self._running:
                self._delete(self._api)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        did = f"no TrainJob {self._name} runs"
        if self._running:
            # Not found: it may be on its way, then it is deleted when the block is left.
            self._running = not self._delete(self._last_api, timeout=0.9)
            did = f"TrainJob {self._name} was deleted"
        raise Terminated(f"ended by request: {did}")

    def adopt(self) -> bool:
        """Take over the job that runs or is complete; False if there is none, or one that failed and is now gone.

        Raises:
            ConfigurationError: the cluster refuses.
        """
        self._running = True
        while found := self._get():
            if found["metadata"].get("deletionTimestamp"):
                time.sleep(POLL_SECONDS)
            elif _condition(found, "Failed"):
                events.message(f"TrainJob {self._name} of an earlier attempt has failed: it is made anew")
                # It stays until its JobSet is gone: Trainer would take that one's failure for the next job's.
                self._ask("delete", self._api.delete_namespaced_custom_object, propagation_policy="Foreground")
            elif self._make_own(found):
                return True
        self._running = False
        return False

    def _make_own(self, found: Mapping[str, Any]) -> bool:
        """Make this pod the owner, since the job ends with its owner; False if it has just ended so."""
        owners = self._body["metadata"]["ownerReferences"]
        if found["metadata"].get("ownerReferences") == owners:
            return True
        # A merge patch, which is what this client calls every patch of a custom object.
        change = {"metadata": {"ownerReferences": owners}}
        if self._ask("patch", self._api.patch_namespaced_custom_object, body=change) is None:
            return False
        self._adopted = True
        events.message(f"TrainJob {self._name} of an earlier attempt is adopted")
        return True

    def create(self) -> None:
        """Create the job; where another attempt was faster, it is there to adopt.

        Raises:
            ConfigurationError: the cluster refuses.
        """
        self._running = True
        try:
            persist(self._api.create_namespaced_custom_object, **self._kind, body=dict(self._body))
        except ApiException as error:
            if error.status != 409:
                self._running = False
                raise refused("create", f"TrainJob {self._name}", REMEDY, error) from error

    def follow(self) -> str | None:
        """Repeat the job's words until it ends; return why it failed, an empty text if it did not.

        None: the adopted job was deleted for the attempt before, whose pod was collected, or told to end, only now.

        Raises:
            RuntimeError: it was deleted, or the Kubernetes API is silent for long.
        """
        phase = ""
        while True:
            found = self._get()
            if found is None:
                self._running = False
                if not self._adopted:
                    raise RuntimeError(f"TrainJob {self._name} was deleted while the step followed it")
                self._adopted = False
                events.message(f"TrainJob {self._name} was deleted with the earlier attempt: it is made anew")
                return None
            self._log.repeat()
            if ended := _condition(found, "Complete") or _condition(found, "Failed"):
                self._running = False
                if ended["type"] == "Complete":
                    return ""
                return f"TrainJob {self._name} failed: {ended.get('message', '')}\n{self._log.last_words()}"
            if (now := "suspended" if _condition(found, "Suspended") else self._log.phase()) != phase:
                phase = now
                events.message(f"TrainJob {self._name}: {phase}")
            time.sleep(POLL_SECONDS)

    def _get(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._ask("get", self._api.get_namespaced_custom_object)
        return found

    def _ask(self, verb: str, request: Callable[..., Any], **more: Any) -> Any:
        """Send a request about the job; None if there is no such job."""
        try:
            return persist(request, **self._kind, name=self._name, **more)
        except ApiException as error:
            if error.status == 404:
                return None
            raise refused(verb, f"TrainJob {self._name}", REMEDY, error) from error

    def _delete(self, api: client.CustomObjectsApi, timeout: float = 30.0) -> bool:
        """Ask for the job's end; False if there is none."""
        more = {"propagation_policy": "Background", "_request_timeout": timeout}
        try:
            api.delete_namespaced_custom_object(**self._kind, name=self._name, **more)
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) == 404:
                return False
            events.message(f"TrainJob {self._name} could not be deleted, it ends with this pod: {error}")
        return True


def _condition(job: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)
