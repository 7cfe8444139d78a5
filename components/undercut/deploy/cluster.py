"""The Kubernetes API as a deployment uses it: one InferenceService, and the pods that serve it.

The connection is the pod's own service account, or the kubeconfig of a laptop (``KUBECONFIG``).
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from undercut.deploy.inference_service import GROUP, PLURAL, VERSION, Object
from undercut.errors import ConfigurationError

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUTS = (10, 60)
# A control plane that is upgraded is away for about a minute.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
TRANSIENT = (429, 500, 502, 503, 504)
Answer = TypeVar("Answer")


class DeploymentError(RuntimeError):
    """The cluster did not do what was asked; the message says what it says."""


class Unreachable(DeploymentError):
    """The API does not answer, or says that it cannot now."""


class Conflict(DeploymentError):
    """Somebody else made or changed the object meanwhile."""


def own_namespace(given: str) -> str:
    """Return the namespace: the setting, or that of this pod.

    Raises:
        ConfigurationError: this is no pod, and the setting is empty.
    """
    found = given or os.environ.get("UNDERCUT_NAMESPACE", "")
    if not found and ACCOUNT_NAMESPACE.is_file():
        found = ACCOUNT_NAMESPACE.read_text().strip()
    if not found:
        raise ConfigurationError("namespace", given, "the namespace to serve in", "Outside a pod there is no own one")
    return found


class Cluster:
    """InferenceServices and pods of one namespace."""

    def __init__(self, namespace: str) -> None:
        """Read where the API is; nothing is sent yet.

        Raises:
            ConfigurationError: there is neither a service account nor a kubeconfig.
        """
        self.namespace = namespace
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(client_configuration=settings)
            else:
                load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
        except ConfigException as error:
            remedy = "Run it in a pod, or set KUBECONFIG"
            raise ConfigurationError("target", "kserve", f"a cluster to deploy to ({error})", remedy) from error
        api = client.ApiClient(settings)
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._place = (GROUP, VERSION, namespace, PLURAL)

    def get(self, name: str) -> Object | None:
        """Return the InferenceService, or None."""
        try:
            found = self._call("get", lambda: self._objects.get_namespaced_custom_object(*self._place, name, **_LIMITS))
        except _Missing:
            return None
        return dict(found)

    def create(self, content: Object) -> Object:
        """Create the InferenceService.

        Raises:
            Conflict: there is one already.
        """
        return self._call(
            "create", lambda: self._objects.create_namespaced_custom_object(*self._place, content, **_LIMITS)
        )

    def replace(self, content: Object) -> Object:
        """Put ``content`` in the place of the version that it was read from.

        Raises:
            Conflict: it was changed since.
        """
        name = content["metadata"]["name"]
        return self._call(
            "update", lambda: self._objects.replace_namespaced_custom_object(*self._place, name, content, **_LIMITS)
        )

    def delete(self, name: str) -> None:
        """Delete the InferenceService; it may be gone already."""
        try:
            self._call("delete", lambda: self._objects.delete_namespaced_custom_object(*self._place, name, **_LIMITS))
        except _Missing:
            return

    def pods(self, labels: dict[str, str]) -> list[Any]:
        """Return the pods (``V1Pod``) with these labels that are not being deleted."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._call(
            "list", lambda: self._core.list_namespaced_pod(self.namespace, label_selector=selector, **_LIMITS), "pods"
        )
        return [pod for pod in found.items if pod.metadata.deletion_timestamp is None]

    def _call(self, verb: str, act: Callable[[], Answer], resource: str = f"{PLURAL}.{GROUP}") -> Answer:
        """Call, a few times where the API cannot answer now, and say what is wrong in words."""
        for wait in (*WAITS, None):
            try:
                return act()
            except ApiException as error:
                failure = self._failure(verb, resource, error)
                cause: Exception = error
            except HTTPError as error:
                failure, cause = Unreachable(f"the Kubernetes API does not answer: {error}"), error
            if not isinstance(failure, Unreachable) or wait is None:
                raise failure from cause
            time.sleep(wait)
        raise AssertionError("the last wait is None")

    def _failure(self, verb: str, resource: str, error: ApiException) -> Exception:
        status = _status(error)
        said = status.get("message") or f"{error.status} {error.reason}"
        if error.status in (401, 403):
            allowed = f"a service account that may {verb} {resource} in namespace {self.namespace}"
            remedy = "Bind the runs' service account to the Role of manifests/runs"
            return ConfigurationError("permission", said, allowed, remedy)
        if error.status == 404 and status.get("kind") == "Status" and verb != "create" and resource != "pods":
            return _Missing(said)
        if error.status == 404:
            remedy = "Install KServe, or check the namespace's name"
            return ConfigurationError("target", "kserve", f"a cluster with {resource} ({said})", remedy)
        if error.status == 409:
            return Conflict(said)
        if error.status in TRANSIENT:
            return Unreachable(f"the Kubernetes API cannot {verb} {resource} now: {said}")
        return DeploymentError(f"the Kubernetes API refuses to {verb} {resource}: {said}")


_LIMITS: dict[str, Any] = {"_request_timeout": TIMEOUTS}


class _Missing(Exception):
    """There is no such object."""


def _status(error: ApiException) -> dict[str, Any]:
    """Return Kubernetes' own words (a Status object), or nothing where a proxy or a bare 404 answered."""
    try:
        found = json.loads(error.body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
