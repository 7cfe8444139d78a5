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
from kmock import KubernetesEmulator, Request, Server
from undercut.cluster.trainjob_body import NODE

NAMESPACE = "team-a"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Cluster:
    """The API server at ``url``, and what was asked of it in ``requests``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, []
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.denied: set[tuple[str, str]] = set()
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self) -> None:
        async with Emulator(self) as emulator, Server(emulator) as server:
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
    """kmock's API server, with pods' logs, refusals, and a record of requests."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self["get", re.compile(rf"{PODS}/[^/]+/log")] << self._log

    async def _log(self, request: Request) -> str:
        pod = request.url.path.split("/")[-2]
        return "".join(f"{stamp} {line}\n" for stamp, line in self.cluster.logs.get(pod, []))
