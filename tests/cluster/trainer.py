"""A cluster for tests: a stateful Kubernetes API over HTTP (kmock), and one thread that plays Kubeflow Trainer.

For each TrainJob it makes the pod of node 0 and runs the job's own command for real, one node, on this machine.
"""

import asyncio
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import requests
from aiohttp import web
from kmock import KubernetesEmulator, KubernetesError, Request, Server
from undercut.cluster.trainjob_body import NODE

NAMESPACE = "team-a"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Cluster:
    """The API server at ``url``, and what was asked of it in ``requests``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, float]] = []
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.denied: set[tuple[str, str]] = set()
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self) -> None:
        emulator = Emulator()
        emulator.cluster = self
        async with emulator, Server(emulator) as server:
            emulator.resources["trainer.kubeflow.org/v1alpha1/trainjobs"] = {"kind": "TrainJob"}
            emulator.resources["v1/pods"] = {"kind": "Pod"}
            self.url = str(server.url).rstrip("/")
            self._started.set()
            await self._stop.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def kubeconfig(self) -> Path:
        """Return a kubeconfig that leads here."""
        path = self.folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": "t"}}],
        }
        path.write_text(json.dumps(content))
        return path

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = requests.get(self.url + JOBS, timeout=30).json()["items"]
        return found

    def set_status(self, job: str, kind: str, message: str = "") -> None:
        condition = {"type": kind, "status": "True", "reason": kind, "message": message, "lastTransitionTime": now()}
        change = {"status": {"conditions": [condition]}}
        requests.patch(f"{self.url}{JOBS}/{job}", json=change, timeout=30).raise_for_status()


class Emulator(KubernetesEmulator):
    """kmock's API server, with pods' logs and refusals; a patch has to be of the kind that it is announced as."""

    cluster: Cluster

    async def _handle(self, request: Request) -> web.StreamResponse:
        self.cluster.requests.append((request.method.value, request.url.path, time.monotonic()))
        if (
            request.method.value,
            request.url.path.partition(f"/{NAMESPACE}/")[2].partition("/")[0],
        ) in self.cluster.denied:
            message = 'trainjobs.trainer.kubeflow.org is forbidden: User "undercut-runner" cannot create it'
            raise KubernetesError(status=403, reason="Forbidden", message=message)
        announced = request.headers.get("Content-Type") == "application/json-patch+json"
        if request.method.value == "PATCH" and isinstance(request.data, list) is not announced:
            message = "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
            raise KubernetesError(status=400, reason="BadRequest", message=message)
        if found := re.fullmatch(rf"{PODS}/([^/]+)/log", request.url.path):
            lines = self.cluster.logs.get(found[1], [])
            return web.Response(text="".join(f"{stamp} {line}\n" for stamp, line in lines))
        if request.method.value == "GET" and request.url.path == PODS:
            return web.json_response({"items": self._selected(request.params.get("labelSelector", ""))})
        return await super()._handle(request)

    def _selected(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods with these labels, which kmock does not look at."""
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        pods = [o.raw for (kind, _, _), o in self.objects.items() if kind.plural == "pods" and not o.deleted]
        return [p for p in pods if wanted.items() <= p["metadata"].get("labels", {}).items()]


class Trainer:
    """Plays Kubeflow Trainer and the kubelet for one node: runs what TrainJobs ask for, as processes."""

    def __init__(self, cluster: Cluster, environment: dict[str, str]) -> None:
        self.cluster, self.environment = cluster, environment
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ended.wait(0.1):
            jobs = {job["metadata"]["name"]: job for job in self.cluster.jobs()}
            for name, job in jobs.items():
                if name not in self.processes and not job.get("status"):
                    self._start(name, job)
            for name, process in list(self.processes.items()):
                if name not in jobs and process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _start(self, name: str, job: dict[str, Any]) -> None:
        trainer = job["spec"]["trainer"]
        home = self.cluster.folder / name
        values = {item["name"]: item["value"] for item in trainer["env"] if "value" in item}
        values |= {"UNDERCUT_HOME": str(home), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"])}
        assert trainer["command"] == ["torchrun"]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *trainer["args"]]
        self.processes[name] = subprocess.Popen(
            command,
            env={**self.environment, **values},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        pod = f"{name}-{NODE}-0-0-abcde"
        self.cluster.logs[pod] = []
        self._write_pod(pod, name, "Running", {"running": {"startedAt": now()}}, create=True)
        threading.Thread(target=self._read, args=(name, pod, self.processes[name]), daemon=True).start()

    def _read(self, name: str, pod: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.cluster.logs[pod].append((now(), line.rstrip("\n")))
        code = process.wait()
        if name not in {job["metadata"]["name"] for job in self.cluster.jobs()}:
            return
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        self._write_pod(pod, name, "Failed" if code else "Succeeded", {"terminated": ended})
        if code:
            self.cluster.set_status(name, "Failed", "jobset failed due to one or more job failures")
        else:
            self.cluster.set_status(name, "Complete", "jobset completed successfully")

    def _write_pod(self, pod: str, job: str, phase: str, state: dict[str, Any], create: bool = False) -> None:
        status = {"name": NODE, "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        labels = {"jobset.sigs.k8s.io/jobset-name": job, "jobset.sigs.k8s.io/replicatedjob-name": NODE}
        labels["batch.kubernetes.io/job-completion-index"] = "0"
        content = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": NAMESPACE, "uid": pod, "labels": labels},
            "status": {"phase": phase, "containerStatuses": [status]},
        }
        if create:
            requests.post(self.cluster.url + PODS, json=content, timeout=30).raise_for_status()
        else:
            requests.patch(f"{self.cluster.url}{PODS}/{pod}", json=content, timeout=30).raise_for_status()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(30)
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
