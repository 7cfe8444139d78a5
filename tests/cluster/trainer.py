"""A cluster for tests: a stateful Kubernetes API over HTTP (kmock), and one thread that plays Kubeflow Trainer.

For each TrainJob it makes the pods of its nodes and runs the job's own command for real in each, on this machine, with
the variables that Trainer's torch policy sets. It does not restart a failed job, as JobSet would.
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

from tests.seaweedfs import free_port

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
        self.denial = 'trainjobs.trainer.kubeflow.org is forbidden: User "undercut-runner" cannot create it'
        self.deletions: list[str] = []
        self.terminating: set[str] = set()
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

    def pods(self, job: str) -> list[str]:
        selector = {"labelSelector": f"jobset.sigs.k8s.io/jobset-name={job}"}
        found = requests.get(self.url + PODS, params=selector, timeout=30).json()["items"]
        return [pod["metadata"]["name"] for pod in found]

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
            raise KubernetesError(status=403, reason="Forbidden", message=self.cluster.denial)
        if request.method.value == "DELETE" and (policy := request.params.get("propagationPolicy")):
            self.cluster.deletions.append(policy)
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
        found = [p for p in pods if wanted.items() <= p["metadata"].get("labels", {}).items()]
        ends = {"deletionTimestamp": now()}
        leaving = self.cluster.terminating
        return [{**p, "metadata": p["metadata"] | (ends if p["metadata"]["name"] in leaving else {})} for p in found]


class Trainer:
    """Plays Kubeflow Trainer and the kubelets: runs what TrainJobs ask for, as one torchrun a node, on empty disks."""

    def __init__(self, cluster: Cluster, environment: dict[str, str]) -> None:
        self.cluster, self.environment = cluster, environment
        self.processes: dict[str, list[subprocess.Popen[str]]] = {}
        self.started: list[str] = []
        self.deleted: list[subprocess.Popen[str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ended.wait(0.1):
            jobs = {job["metadata"]["name"]: job for job in self.cluster.jobs()}
            for name in [name for name in self.processes if name not in jobs]:
                for process in self.processes[name]:
                    process.terminate()  # to the container's first process, as a kubelet does
                self.deleted += self.processes.pop(name)
                for pod in self.cluster.pods(name):
                    requests.delete(f"{self.cluster.url}{PODS}/{pod}", timeout=30).raise_for_status()
            for name, job in jobs.items():
                if name not in self.processes and not job.get("status"):
                    self._start(name, job)

    def _start(self, name: str, job: dict[str, Any]) -> None:
        trainer = job["spec"]["trainer"]
        self.started.append(name)
        values = {item["name"]: item["value"] for item in trainer["env"] if "value" in item}
        values |= {"PET_NNODES": str(trainer["numNodes"]), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"])}
        values |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port())}
        assert trainer["command"] == ["torchrun"]
        command = [sys.executable, "-m", "torch.distributed.run", *trainer["args"]]
        self.processes[name] = []
        for node in range(trainer["numNodes"]):
            pod = f"{name}-{NODE}-0-{node}-{len(self.started)}"
            disk = {"UNDERCUT_HOME": str(self.cluster.folder / pod), "PET_NODE_RANK": str(node)}
            process = subprocess.Popen(
                command,
                env={**self.environment, **values, **disk},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self.processes[name].append(process)
            self.cluster.logs[pod] = []
            self._write_pod(pod, name, node, "Running", {"running": {"startedAt": now()}}, create=True)
            threading.Thread(target=self._read, args=(name, pod, node, process), daemon=True).start()

    def _read(self, name: str, pod: str, node: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.cluster.logs[pod].append((now(), line.rstrip("\n")))
        code = process.wait()
        if process not in self.processes.get(name, []):
            return
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        self._write_pod(pod, name, node, "Failed" if code else "Succeeded", {"terminated": ended})
        if code:
            self.cluster.set_status(name, "Failed", "jobset failed due to one or more job failures")
        elif all(other.poll() == 0 for other in self.processes[name]):
            self.cluster.set_status(name, "Complete", "jobset completed successfully")

    def _write_pod(
        self, pod: str, job: str, node: int, phase: str, state: dict[str, Any], create: bool = False
    ) -> None:
        status = {"name": NODE, "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        labels = {"jobset.sigs.k8s.io/jobset-name": job, "jobset.sigs.k8s.io/replicatedjob-name": NODE}
        labels["batch.kubernetes.io/job-completion-index"] = str(node)
        content = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": NAMESPACE, "uid": pod, "labels": labels},
            "status": {"phase": phase, "containerStatuses": [status]},
        }
        if create:
            content["metadata"]["creationTimestamp"] = now()  # type: ignore[index]
            requests.post(self.cluster.url + PODS, json=content, timeout=30).raise_for_status()
        else:
            requests.patch(f"{self.cluster.url}{PODS}/{pod}", json=content, timeout=30).raise_for_status()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(30)
        running = [*self.deleted, *(one for nodes in self.processes.values() for one in nodes)]
        self.processes.clear()  # nobody is told of their ends
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
