"""A client of Kubeflow Pipelines whose every call ends: with an answer, or with one line that says why not.

``kfp.Client`` on its own waits for ever on a server that accepts and does not answer, tries its first call
five times with five seconds between, takes a login page for an answer, and prints as it goes.
"""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import urllib3
import yaml
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp_server_api import ApiException, rest

from undercut.cluster.refusals import Refusal, refusal, unanswered
from undercut.cluster.settings import SECRETS, Connection
from undercut.errors import ConfigurationError

CONNECT_SECONDS = 10.0
# Where Kubernetes tells a pod which namespace it is in.
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Transport(rest.RESTClientObject):  # type: ignore[misc]
    """The HTTP client underneath, with bounded times and errors in words."""

    def __init__(self, configuration: Any, settings: Connection) -> None:
        # Repeated: what never reached the server, and reads; a creation that may have arrived is not.
        configuration.retries = urllib3.Retry(
            total=3,
            connect=1,
            read=1,
            other=0,
            backoff_factor=0.5,
            status=1,
            status_forcelist=(502, 503, 504),
            respect_retry_after_header=False,
        )
        configuration.retries.raise_on_status = False
        super().__init__(configuration)
        self._settings = settings
        self._timeout = (min(CONNECT_SECONDS, settings.timeout_seconds), settings.timeout_seconds)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send one request; see :class:`kfp_server_api.rest.RESTClientObject`.

        Raises:
            Refusal: the server did not answer, refused, or is no Kubeflow Pipelines.
        """
        options["_request_timeout"] = self._timeout
        secrets = _sent(options.get("headers") or {})
        try:
            with warnings.catch_warnings():  # the settings say verify: false
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
                response = super().request(method, url, **options)
        except ApiException as error:
            raise refusal(error, method, url, self._settings, secrets) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unanswered(error, method, url, self._settings) from None
        kind = response.getheader("content-type") or ""
        if "json" not in kind.lower() or not _is_object(response.data):
            raise refusal(None, method, url, self._settings, secrets, kind)
        return response


class Client(kfp.Client):  # type: ignore[misc]
    """``kfp.Client`` on a :class:`Transport`.

    Args:
        settings: how to reach the server.

    Raises:
        Refusal: the server does not answer, refuses, or is no Kubeflow Pipelines.
        ConfigurationError: there is no way to the server, or a profile is needed and none is given.
    """

    def __init__(self, settings: Connection) -> None:
        self.settings = settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(**_arguments(settings))
        api_client = self._healthz_api.api_client
        api_client.rest_client = Transport(api_client.configuration, settings)
        health = self.get_kfp_healthz()
        if health.multi_user is None:
            remedy = "Something else answers there: check the endpoint"
            raise Refusal("endpoint", settings.endpoint, "the API of Kubeflow Pipelines", remedy)
        self.profile = _profile(settings, bool(health.multi_user))
        self._context_setting["namespace"] = self.profile or ""

    def run_link(self, run_id: str) -> str:
        """Return a run's page in KFP's UI; empty where its address is not known."""
        base = (self.settings.ui or self.settings.endpoint).rstrip("/")
        slash = "" if "?" in base else "/"  # Kubeflow's own page names the profile: …/_/pipeline/?ns=team-a
        return f"{base}{slash}#/runs/details/{run_id}" if base else ""

    def _load_config(self, *arguments: Any, **options: Any) -> Any:
        """Return kfp's configuration, with a host that lasts.

        A kubeconfig's token comes with a hook that is called before each request and sets the host again, to
        the API server without the path to KFP, and itself.
        """
        config = super()._load_config(*arguments, **options)
        host = config.host.rstrip("/")  # the path through the API server ends in one, and routes start with one
        config.host = host
        renew = config.refresh_api_key_hook
        if renew:

            def renew_token(configuration: Any) -> None:
                renew(configuration)
                configuration.host, configuration.refresh_api_key_hook = host, renew_token

            config.refresh_api_key_hook = renew_token
        return config

    def _load_context_setting_or_default(self) -> None:
        """Leave kfp's own file of settings alone: what it says holds for another cluster.

        While the client is made, some namespace keeps it from asking the server for one.
        """
        self._context_setting = {"namespace": self.settings.kfp_namespace}


def _is_object(content: bytes) -> bool:
    """Tell whether an answer is a JSON object, as all of KFP's are."""
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False


def _sent(headers: Mapping[str, Any]) -> list[str]:
    """Return the secrets of a request, whether they are the settings', the kubeconfig's or the pod's."""
    values = {name.lower(): str(value) for name, value in headers.items()}
    return [values.get("authorization", "").rpartition(" ")[2], values.get("cookie", "")]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to ourselves what kfp prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _arguments(settings: Connection) -> dict[str, Any]:
    """Return ``kfp.Client``'s arguments.

    Where an endpoint is given, it is used, with the token or cookie there is. Inside the cluster it is the
    service of KFP, with the pod's projected token. Elsewhere the kubeconfig leads through the API server.
    """
    arguments: dict[str, Any] = {
        "namespace": settings.kfp_namespace,
        "ui_host": settings.ui or None,
        "ssl_ca_cert": str(Path(settings.ca_file).expanduser()) if settings.ca_file else None,
        "verify_ssl": settings.verify,
        "existing_token": settings.secret("token") or None,
        "cookies": settings.secret("cookie") or None,
    }
    token_file = settings.token_file or _projected_token(settings.endpoint)
    if token_file and not settings.token and not arguments["cookies"]:
        arguments["existing_token"] = None  # read again before each call: Kubernetes renews it
        path = str(Path(token_file).expanduser())
        arguments["credentials"] = kfp.client.ServiceAccountTokenVolumeCredentials(path=path)
    if settings.endpoint:
        return {**arguments, "host": settings.endpoint}
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return {**arguments, "host": f"http://ml-pipeline.{settings.kfp_namespace}.svc.cluster.local:8888"}
    _check_kubeconfig(settings)
    return {**arguments, "kube_context": settings.context or None}


def _projected_token(endpoint: str) -> str:
    """Return the file with the pod's token for KFP, empty for none; it is not sent out of the cluster by itself."""
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    host = urlsplit(endpoint).hostname or ""
    inside = "." not in host or host.endswith((".svc", ".svc.cluster.local"))
    path = named or (KF_PIPELINES_SA_TOKEN_PATH if inside else "")
    return path if path and Path(path).is_file() else ""


def _check_kubeconfig(settings: Connection) -> None:
    """Refuse now what kfp passes over in silence, to then ask localhost."""
    from kubernetes import client, config

    context = settings.context
    given = [name for name in (*SECRETS, "token_file", "cookie_file") if getattr(settings, name)]
    if given:  # kfp would not look at the kubeconfig
        remedy = "Give --endpoint or KF_PIPELINES_ENDPOINT; a kubeconfig brings its own user"
        raise ConfigurationError("endpoint", "", f"the address that the {given[0]} is for", remedy)
    try:
        config.load_kube_config(client_configuration=client.Configuration(), context=context or None)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        remedy = "Give --endpoint or KF_PIPELINES_ENDPOINT, or a kubeconfig (KUBECONFIG, --context) that leads there"
        allowed = "a cluster's context" if context else "the address of Kubeflow Pipelines, or a kubeconfig"
        raise ConfigurationError("context" if context else "endpoint", context, allowed, remedy) from error


def _profile(settings: Connection, multi_user: bool) -> str | None:
    """Return the namespace that requests name: None where KFP has one user, and would refuse one."""
    if not multi_user:
        return None
    if settings.namespace:
        return settings.namespace
    if NAMESPACE_FILE.is_file():
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    remedy = "Give --namespace or UNDERCUT_KFP_NAMESPACE: this Kubeflow has several users"
    raise ConfigurationError("namespace", "", "your profile's namespace", remedy)
