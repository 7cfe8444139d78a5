"""A cluster to deploy to: kmock's Kubernetes API over HTTP, a controller that plays KServe, pods that are processes.

The API keeps resource versions, refuses stale writes, and refuses what the CRD's schema and KServe's webhook
would. The controller gives every predictor of an InferenceService a pod: the storage initializer's part (the
release, read from S3) and a real ``undercut.serving`` process on a loopback address of its own. ``resolve``
plays the cluster's DNS, which leads a Service's name to that address.
"""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp.web
import kmock
from jsonschema import Draft202012Validator
from undercut import objects

from tests.seaweedfs import free_port

NAMESPACE = "team"
ISVC = kmock.resource("serving.kserve.io", "v1beta1", "inferenceservices")
PODS = kmock.resource("", "v1", "pods")
URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
Object = dict[str, Any]
# Each pod's service and release, with its labels.
Wanted = dict[tuple[str, str], dict[str, str]]


def closed(schema: Any) -> Any:
    """Return an OpenAPI schema in which a misspelt field fails."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    return found


def webhook(isvc: Object) -> str:
    """Return what KServe's validating webhook says (``validateCanarySpecs``), or nothing."""
    spec, annotations = isvc["spec"], isvc["metadata"].get("annotations", {})
    stable = spec["predictor"].get("minReplicas", 1)
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", isvc["metadata"]["name"]):
        return "the InferenceService's name is invalid"
    for entry in spec.get("canary", []):
        predictor = entry["predictor"]
        if annotations.get("serving.kserve.io/deploymentMode") != "Standard":
            return "canary is only supported in Standard deployment mode"
        if not predictor.get("name") or predictor["name"] == spec["predictor"].get("name"):
            return "canary predictor.name is required, and another than the stable predictor's"
        fixed = {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"} & predictor.keys()
        if fixed:
            return f"canary must not set {fixed} (canary uses fixed replicas)"
        if predictor.get("minReplicas", 0) > stable:
            return f"canary minReplicas ({predictor['minReplicas']}) must not exceed stable minReplicas ({stable})"
    return ""


class Api(kmock.KubernetesEmulator):
    """kmock's emulator with what a deployment relies on: versions, PUT, label selectors, refusals."""

    def prepare(self, schema: Any) -> None:
        self.resources[ISVC] = {"kind": "InferenceService", "namespaced": True}
        self.resources[PODS] = {"kind": "Pod", "namespaced": True}
        self.schema, self.version = schema, 1
        self.forbidden: set[str] = set()
        self.outages, self.without_kserve = 0, False
        self.lost_answers = 0
        self.writes: list[Object] = []

    async def _handle(self, request: kmock.Request) -> aiohttp.web.StreamResponse:
        kind = "pods" if request.resource == PODS else "inferenceservices.serving.kserve.io"
        verb = {"POST": "create", "PUT": "update", "DELETE": "delete"}.get(str(request.method.value), "get")
        verb = "list" if verb == "get" and request.name is None else verb
        if request.resource is not None and f"{verb} {kind.partition('.')[0]}" in self.forbidden:
            words = f'{kind} is forbidden: User "system:serviceaccount:team:undercut-runner" cannot {verb} resource'
            return _refusal(403, "Forbidden", words)
        if self.outages:
            self.outages -= 1
            return _refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if request.resource == ISVC and self.without_kserve:
            return aiohttp.web.Response(text="404 page not found\n", status=404)
        if request.resource == PODS and verb == "list":
            return aiohttp.web.json_response({"kind": "PodList", "apiVersion": "v1", "items": self._selected(request)})
        if request.resource == ISVC and verb in ("create", "update"):
            answer = await self._write(request, verb)
            if self.lost_answers:  # a load balancer gives up on a request that is done
                self.lost_answers -= 1
                return _refusal(504, "Timeout", "the server was unable to return a response in the time allotted")
            return answer
        return await super()._handle(request)

    def _selected(self, request: kmock.Request) -> list[Object]:
        wanted = [part.split("=") for part in request.params.get("labelSelector", "").split(",") if part]
        pods = [o.raw for (kind, _, _), o in self.objects.items() if kind == PODS and not o.deleted]
        return [p for p in pods if all(p["metadata"]["labels"].get(key) == value for key, value in wanted)]

    async def _write(self, request: kmock.Request, verb: str) -> aiohttp.web.StreamResponse:
        given: Object = request.data
        errors = [e.message for e in Draft202012Validator(self.schema).iter_errors(given)] if self.schema else []
        if errors or (said := webhook(given)):
            return _refusal(422 if errors else 400, "Invalid", errors[0] if errors else said)
        self.writes.append(json.loads(json.dumps(given)))
        self.version += 1
        key = (ISVC, request.namespace, given["metadata"]["name"])
        if verb == "create":
            given["metadata"] |= {"resourceVersion": str(self.version), "uid": "1"}
            return await super()._handle(request)
        if key not in self.objects or self.objects[key].deleted:
            return _refusal(404, "NotFound", "not found")
        live = self.objects[key].raw
        if given["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            return _refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        given["metadata"]["resourceVersion"] = str(self.version)
        given["status"] = live.get("status", {})
        self.objects[key].create(given)
        return aiohttp.web.json_response(given)

    def set_status(self, name: str, status: Object) -> None:
        self.version += 1
        found = self.objects[ISVC, NAMESPACE, name]
        if json.loads(json.dumps(found.raw.get("status", {}))) != status:
            raw = json.loads(json.dumps(found.raw))
            raw["status"], raw["metadata"]["resourceVersion"] = status, str(self.version)
            found.create(raw)


def _refusal(code: int, reason: str, message: str) -> aiohttp.web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return aiohttp.web.json_response({**status, "message": message}, status=code)


@dataclass
class Pod:
    """One process that serves one release, or what keeps it from doing so."""

    service: str
    uri: str
    labels: dict[str, str]
    address: str
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    waiting: str = ""


@dataclass
class Cluster:
    """The cluster. ``act`` may replace a release's folder or spoil its pod before it serves."""

    folder: Path
    schema: Any
    act: Callable[["Cluster", Pod, Path], list[str] | None] = lambda cluster, pod, folder: None
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    paused: bool = False
    revisions: dict[str, list[str]] = field(default_factory=dict)
    rolled_out: dict[str, Wanted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port, self._number, self._stop = free_port(), 1, threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="cluster", daemon=True)
        self._thread.start()
        assert self._up.wait(20), "the API did not start"

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)
        for pod in self.pods.values():
            self._end(pod)

    def kubeconfig(self) -> Path:
        """Write a kubeconfig that leads here."""
        path = self.folder / "kubeconfig"
        named = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "token-of-the-test"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))
        return path

    def resolve(self, host: Any, *arguments: Any, **options: Any) -> Any:
        """Stand in for :func:`socket.getaddrinfo`: names of Services lead to their pod."""
        if isinstance(host, str) and host.endswith(f".{NAMESPACE}.svc.cluster.local"):
            host = self.services.get(host.partition(".")[0]) or "no-such-service.invalid"
        return _getaddrinfo(host, *arguments, **options)

    def live(self, name: str = "shop") -> Object | None:
        key = (ISVC, NAMESPACE, name)
        if key not in self.api.objects or self.api.objects[key].deleted:
            return None
        return dict(json.loads(json.dumps(self.api.objects[key].raw)))

    def forget(self) -> None:
        """Let pods start that could not, as when the image is there after all."""
        self.act = lambda cluster, pod, folder: None
        for key in [key for key, pod in self.pods.items() if pod.waiting]:
            del self.pods[key]

    async def _main(self) -> None:
        async with Api() as self.api, kmock.Server(self.api) as server:
            self.api.prepare(self.schema)
            self.api.strict = False
            self.url = str(server.url).rstrip("/")
            self._up.set()
            with ThreadPoolExecutor(4) as pool:
                while not self._stop.is_set():
                    if not self.paused:
                        self._reconcile(pool)
                    await asyncio.sleep(0.05)

    def _reconcile(self, pool: ThreadPoolExecutor) -> None:
        wanted: Wanted = {}
        live = {name: o.raw for (kind, _, name), o in self.api.objects.items() if kind == ISVC and not o.deleted}
        for name, isvc in live.items():
            knative = isvc["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
            wanted |= self._revisions_of(name, isvc) if knative else _deployments_of(name, isvc)
        for key, labels in wanted.items():
            if key not in self.pods:
                self._number += 1
                self.pods[key] = Pod(*key, labels, f"127.0.0.{self._number}")
                pool.submit(self._start, self.pods[key], labels["serving.kserve.io/inferenceservice"])
        for key in [key for key, pod in self.pods.items() if key not in wanted]:
            others = [p for k, p in self.pods.items() if k in wanted and p.service == key[0]]
            if not others or all(pod.ready for pod in others):  # a rolling update keeps the old pod until then
                self._end(self.pods.pop(key))
        self._publish(live)

    def _start(self, pod: Pod, name: str) -> None:
        """Fetch the release as KServe's storage initializer does, and serve it as the ServingRuntime does."""
        folder = self.folder / f"pod-{pod.address}"
        bucket, _, prefix = pod.uri.removeprefix("s3://").partition("/")
        client = objects.connect()
        for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            path = folder / entry["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, entry["Key"], str(path))
        command = [sys.executable, "-m", "undercut.serving", "--model", str(folder), "--name", name]
        command = self.act(self, pod, folder) or command
        if pod.waiting:
            return
        log = (self.folder / f"pod-{pod.address}.log").open("wb")
        command += ["--host", pod.address, "--port", str(self.port)]
        pod.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and pod.process.poll() is None and not self._stop.is_set():
            try:
                socket.create_connection((pod.address, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                pod.ready = True
                return

    def _publish(self, live: dict[str, Object]) -> None:
        """Write what KServe and the kubelet would: pods, Services' endpoints, the objects' status."""
        for key in [key for key, o in self.api.objects.items() if key[0] == PODS and not o.deleted]:
            self.api.objects[key].delete()
        for pod in self.pods.values():
            key = (PODS, NAMESPACE, f"{pod.service}-{pod.address.rpartition('.')[2]}")
            content = _pod_object(key[2], pod)
            if key in self.api.objects:
                self.api.objects[key].create(content)
            else:
                self.api.objects[key] = content
            if pod.ready:
                self.services[pod.service] = pod.address
        for name, isvc in live.items():
            if name in self.revisions:
                self._publish_revisions(name, isvc)
                continue
            ready = self._is_ready(f"{name}-predictor")
            entries = [(c["predictor"]["name"], c["trafficPercent"]) for c in isvc["spec"].get("canary", [])]
            status: Object = {
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                "address": {"url": f"http://{name}-predictor.{NAMESPACE}.svc.cluster.local:{self.port}"},
                "url": f"http://{name}-{NAMESPACE}.example.com",
                "canaryStatuses": [
                    {"name": n, "ready": self._is_ready(f"{name}-{n}-predictor"), "trafficPercent": p}
                    for n, p in entries
                ],
            }
            self.api.set_status(name, json.loads(json.dumps(status)))

    def _revisions_of(self, name: str, isvc: Object) -> Wanted:
        """Return Knative's pods: of the newest revision, and of the one that was rolled out before."""
        predictor, revisions = isvc["spec"]["predictor"], self.revisions.setdefault(name, [])
        uri, labels = predictor["model"]["storageUri"], {**predictor["labels"], **_named(name)}
        if not revisions or revisions[-1] != uri:
            revisions.append(uri)
        wanted = {(f"{name}-{labels['undercut/model'][:4]}", uri): labels}
        ready = any(pod.uri == uri and pod.ready for pod in self.pods.values())
        if name in self.rolled_out and ("canaryTrafficPercent" in predictor or not ready):
            return {**self.rolled_out[name], **wanted}
        self.rolled_out[name] = wanted
        return wanted

    def _publish_revisions(self, name: str, isvc: Object) -> None:
        ready = {pod.uri: pod.address for pod in self.pods.values() if pod.ready}
        newest, (_, stable) = self.revisions[name][-1], next(iter(self.rolled_out[name]))
        names = {f"latest-{name}-predictor": ready.get(newest, ""), f"{name}-predictor": ready.get(stable, "")}
        self.services.update(names)
        number = len(self.revisions[name])
        revisions = {
            "latestCreatedRevision": f"{name}-predictor-{number:05}",
            "latestReadyRevision": f"{name}-predictor-{number if newest in ready else number - 1:05}",
        }
        status: Object = {
            "conditions": [{"type": "Ready", "status": "True" if stable in ready else "False"}],
            "address": {"url": f"http://{name}-predictor.{NAMESPACE}.svc.cluster.local:{self.port}"},
            "components": {"predictor": revisions},
        }
        self.api.set_status(name, status)

    def _is_ready(self, service: str) -> bool:
        """A Deployment is available while any of its pods is."""
        return any(pod.ready for pod in self.pods.values() if pod.service == service)

    def _end(self, pod: Pod) -> None:
        if self.services.get(pod.service) == pod.address:
            del self.services[pod.service]
        if pod.process is not None and pod.process.poll() is None:
            os.killpg(pod.process.pid, signal.SIGKILL)
            pod.process.wait()


_getaddrinfo = socket.getaddrinfo


def _named(name: str) -> dict[str, str]:
    return {"serving.kserve.io/inferenceservice": name}


def _deployments_of(name: str, isvc: Object) -> Wanted:
    """Return Standard's pods, which their Services select by the label ``app``."""
    wanted = {}
    for predictor in [isvc["spec"]["predictor"], *(c["predictor"] for c in isvc["spec"].get("canary", []))]:
        service = f"{name}-{predictor['name']}-predictor" if predictor.get("name") else f"{name}-predictor"
        labels = {**predictor["labels"], "app": f"isvc.{service}", **_named(name)}
        wanted[service, predictor["model"]["storageUri"]] = labels
    return wanted


def _pod_object(name: str, pod: Pod) -> Object:
    state = {"waiting": {"reason": pod.waiting, "message": "Back-off pulling image"}} if pod.waiting else {}
    container = {"name": "kserve-container", "ready": pod.ready, "restartCount": 0, "state": state, "image": "x"}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": pod.labels, "annotations": {URI: pod.uri}},
        "spec": {"containers": [{"name": "kserve-container", "image": "x"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if pod.ready else "False"}],
            "containerStatuses": [{**container, "imageID": ""}],
        },
    }
