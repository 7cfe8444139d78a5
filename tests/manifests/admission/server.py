"""A real API server, and namespaces of our own in it: what is applied there, and what it says."""

import copy
import json
import os
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.manifests.rendering import kubectl

Object = dict[str, Any]
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
# Objects of no namespace, whose names have to be our own too.
CLUSTER_WIDE = ("Namespace", "PriorityClass", "ResourceFlavor", "ClusterQueue")
# Fields that name such an object, wherever they are.
NAMING = ("namespace", "kubernetes.io/metadata.name", "priorityClassName", "clusterQueue")


class ApiServer:
    """The server that a kubeconfig leads to, as its administrator.

    Args:
        kubeconfig: the file.
    """

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.api = config.new_client_from_config(kubeconfig)
        self.core = client.CoreV1Api(self.api)
        self.mark = f"undercut-test-{uuid.uuid4().hex[:6]}"
        self._served: set[tuple[str, str]] = set()

    def kubectl(self, *arguments: str, given: Sequence[Object] = ()) -> "subprocess.CompletedProcess[str]":
        """Return what kubectl did, with objects on its standard input."""
        command = [kubectl(), "--kubeconfig", self.kubeconfig, *arguments]
        environment = {**os.environ, "HOME": "/nonexistent"}
        text = yaml.safe_dump_all(given)
        return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=300)

    def serves(self, item: Object) -> bool:
        """Return whether the server knows an object's kind."""
        if not self._served:
            lines = self.kubectl("api-resources", "--no-headers").stdout.splitlines()
            self._served = {(line.split()[-3], line.split()[-1]) for line in lines}
        return (item["apiVersion"], item["kind"]) in self._served

    def namespace(self, name: str, labels: Mapping[str, str]) -> str:
        """Make a namespace, wait for its default ServiceAccount, and return its name."""
        self.core.create_namespace({"metadata": {"name": name, "labels": dict(labels)}})
        self.account(name, "default")
        return name

    def account(self, namespace: str, name: str) -> None:
        """Wait for a ServiceAccount; make it, where no controller does."""
        for _ in range(20):
            try:
                self.core.read_namespaced_service_account(name, namespace)
            except ApiException:
                time.sleep(0.25)
            else:
                return
        self.core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})

    def as_account(self, namespace: str, name: str, folder: Path) -> Path:
        """Return a kubeconfig that holds a new token of a ServiceAccount and nothing else."""
        done = self.kubectl("create", "token", name, "--namespace", namespace)
        assert done.returncode == 0, done.stderr
        shown = json.loads(self.kubectl("config", "view", "--minify", "--raw", "--flatten", "-o", "json").stdout)
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "run",
            "clusters": [{"name": "it", "cluster": shown["clusters"][0]["cluster"]}],
            "contexts": [{"name": "run", "context": {"cluster": "it", "user": "run", "namespace": namespace}}],
            "users": [{"name": "run", "user": {"token": done.stdout.strip()}}],
        }
        path = folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path

    def apply(self, items: Sequence[Object]) -> None:
        """Apply objects as the README says; nothing may be refused or warned of."""
        done = self.kubectl("apply", "--server-side", "--field-manager=undercut-test", "-f", "-", given=items)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def difference(self, items: Sequence[Object]) -> str:
        """Return what applying them again would change."""
        arguments = ("diff", "--server-side", "--field-manager=undercut-test", "-f", "-")
        done = self.kubectl(*arguments, given=items)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def create_pod(self, namespace: str, pod: Object) -> Object:
        """Create a pod; it is not only tried. The server's own answer is returned, with what it filled in."""
        found = self.core.create_namespaced_pod(namespace, pod, field_validation="Strict")
        return dict(self.api.sanitize_for_serialization(found))

    def count_anew(self, namespace: str, quota: str) -> None:
        """Say that nothing of a quota is used: without its status pods are refused, and its controller may be late.

        Where there is a controller, it corrects this when something is used.
        """
        found = self.core.read_namespaced_resource_quota(quota, namespace)
        status = {"hard": found.spec.hard, "used": dict.fromkeys(found.spec.hard, "0")}
        self.core.patch_namespaced_resource_quota_status(quota, namespace, {"status": status})

    def remove_everything(self) -> None:
        """Delete what bears our mark."""
        self.kubectl("delete", "namespace", "--wait=false", "--selector", f"undercut/test={self.mark}")
        self.kubectl("delete", "priorityclass", "--selector", f"undercut/test={self.mark}")
        for kind in ("resourceflavors.kueue.x-k8s.io", "clusterqueues.kueue.x-k8s.io"):
            self.kubectl("delete", kind, "--wait=false", "--selector", f"undercut/test={self.mark}")


def as_our_own(items: Sequence[Object], names: Mapping[str, str], mark: str) -> list[Object]:
    """Return objects with the names of namespaces and of objects of no namespace replaced, and with our mark.

    Args:
        items: rendered objects.
        names: what is called how; a name that is missing stays.
        mark: the value of the label that says what to remove.
    """
    changed = [_renamed(copy.deepcopy(item), names) for item in items]
    for item in changed:
        if item["kind"] in CLUSTER_WIDE:
            item["metadata"]["name"] = names[item["metadata"]["name"]]
            item["metadata"].setdefault("labels", {})["undercut/test"] = mark
    return changed


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(part, names) for part in node]
    if not isinstance(node, dict):
        return node
    return {
        key: names.get(value, value) if key in NAMING and isinstance(value, str) else _renamed(value, names)
        for key, value in node.items()
    }
