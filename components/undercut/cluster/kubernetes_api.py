"""The Kubernetes API as a step meets it: a client, patience with a server that restarts, refusals in one line."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from undercut import events
from undercut.errors import ConfigurationError

# The API server is asked again for as long as a restart of it takes.
PATIENCE_SECONDS = 300.0


def connect() -> client.ApiClient:
    """Return a client with the pod's own ServiceAccount, or the user of ``KUBECONFIG`` where there is no pod.

    Raises:
        ConfigurationError: there is neither.
    """
    settings = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
    except config.ConfigException as error:
        remedy = "The pod needs its ServiceAccount's token mounted"
        raise ConfigurationError("Kubernetes API", str(error), "a ServiceAccount, or KUBECONFIG", remedy) from error
    settings.retries = 0
    return client.ApiClient(settings)


def persist(request: Callable[..., Any], **arguments: Any) -> Any:
    """Send a request; again, with growing waits, while the API server cannot be reached or is busy.

    Raises:
        ApiException: it refuses.
        RuntimeError: it was silent for five minutes.
    """
    started, wait = time.monotonic(), 0.5
    while True:
        try:
            return request(**arguments, _request_timeout=30)
        except (ApiException, HTTPError) as error:
            status = getattr(error, "status", None)
            if status and status < 500 and status != 429:
                raise
            if time.monotonic() - started > PATIENCE_SECONDS:
                raise RuntimeError(f"the Kubernetes API does not answer: {error}") from error
            events.message(f"the Kubernetes API does not answer, again in {wait:g} s")
            time.sleep(wait)
            wait = min(2 * wait, 30.0)


def refused(verb: str, what: str, remedy: str, error: ApiException) -> ConfigurationError:
    """Return a refusal as one line.

    Args:
        verb: what was to be done.
        what: the object, its kind and name.
        remedy: what helps where it is not for lack of permission.
        error: the server's answer.
    """
    try:
        reason = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        reason = error.reason
    got = f"{error.status} {reason}"
    # 403 is also what an admission webhook or a quota answers; only the lack of a right names a user.
    if error.status == 401 or (error.status == 403 and 'User "' in str(reason)):
        rights = "The run's ServiceAccount needs the permissions of manifests/runs"
        return ConfigurationError(what, got, f"the right to {verb} it", rights)
    return ConfigurationError(what, got, "an object that the cluster takes", remedy)
