"""How a cluster's Kubeflow Pipelines is reached: from flags, the environment and a small file.

A flag goes over the environment, and that over ``~/.config/undercut/config.yaml`` (``$XDG_CONFIG_HOME`` is
honoured, ``UNDERCUT_CONFIG`` names another file), for example::

    endpoint: https://kubeflow.example.com/pipeline
    namespace: team-a
    token_file: ~/.config/undercut/token
    ca_file: /etc/ssl/company.pem

Each setting is also the variable ``UNDERCUT_KFP_`` and its name in capitals; the endpoint and the address of
the UI have KFP's own names, ``KF_PIPELINES_ENDPOINT`` and ``KF_PIPELINES_UI_ENDPOINT``. A token or a cookie is
never a flag and never in the file, where others would see it: it comes from ``UNDERCUT_KFP_TOKEN`` and
``UNDERCUT_KFP_COOKIE``, or from a file that ``token_file`` or ``cookie_file`` names.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from undercut.errors import ConfigurationError

SERVICE_ACCOUNT = "undercut-runner"  # of manifests/runs
EXPERIMENT = "undercut"
KFP_NAMESPACE = "kubeflow"
TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 5.0
VARIABLES = {"endpoint": "KF_PIPELINES_ENDPOINT", "ui": "KF_PIPELINES_UI_ENDPOINT"}
SECRETS = ("token", "cookie")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach Kubeflow Pipelines, and what runs get by default.

    Attributes:
        endpoint: the API's address; empty inside the cluster, and where a kubeconfig leads there.
        namespace: the profile whose runs these are; empty where KFP has one user.
        kfp_namespace: the namespace that KFP itself runs in.
        context: the kubeconfig's context; empty for its current one.
        token_file: a file with a bearer token, read again when it changes.
        cookie_file: a file with a cookie, such as ``authservice_session=…``.
        ca_file: certificates (PEM) that the server's is checked against; empty for the usual ones.
        verify: False accepts any certificate.
        ui: the address of KFP's UI, for links; empty for the endpoint.
        timeout_seconds: how long one answer may take.
        poll_seconds: between two questions after a run that is waited for.
        service_account: the ServiceAccount that runs have; empty for KFP's default.
        experiment: the experiment that runs belong to.
        token: a bearer token, from the environment.
        cookie: a cookie, from the environment.
    """

    endpoint: str = ""
    namespace: str = ""
    kfp_namespace: str = KFP_NAMESPACE
    context: str = ""
    token_file: str = ""
    cookie_file: str = ""
    ca_file: str = ""
    verify: bool = True
    ui: str = ""
    timeout_seconds: float = TIMEOUT_SECONDS
    poll_seconds: float = POLL_SECONDS
    service_account: str = SERVICE_ACCOUNT
    experiment: str = EXPERIMENT
    token: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = _split(self.endpoint)
        if self.endpoint and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise ConfigurationError("endpoint", self.endpoint, "an address, https://host/path or http://host:port")
        if "@" in parts.netloc:
            shown = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise ConfigurationError("endpoint", shown, "an address without a login", "Give a token or a cookie")
        for name in ("token_file", "cookie_file", "ca_file"):
            path = getattr(self, name)
            if path and not os.access(Path(path).expanduser(), os.R_OK):
                raise ConfigurationError(name, path, "a file that can be read")
        for name in ("timeout_seconds", "poll_seconds"):
            if not 0 < getattr(self, name) <= 3600:
                raise ConfigurationError(name, getattr(self, name), "above 0 and up to 3600")
        given = [name for name in (*SECRETS, "token_file", "cookie_file") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigurationError(" and ".join(given), "both", "one way to authenticate", "Unset the other")

    def secret(self, name: str) -> str:
        """Return the token or the cookie, from the environment or from its file; empty for none.

        Raises:
            ConfigurationError: the file cannot be read or is empty, or it is nothing that a header can hold.
        """
        path = getattr(self, f"{name}_file")
        if not path:
            value = str(getattr(self, name)).strip()
            if not _is_header(value):
                variable = f"UNDERCUT_KFP_{name.upper()}"
                raise ConfigurationError(variable, "a secret", f"one line of printable ASCII, the {name}")
            return value
        try:
            content = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}_file", path, "a text file that can be read") from error
        if not content or not _is_header(content):
            raise ConfigurationError(f"{name}_file", path, f"a file with one line of printable ASCII, the {name}")
        return content


def read_settings(flags: Mapping[str, Any]) -> Connection:
    """Return the settings of flags, environment and file; an empty flag counts as not given.

    Raises:
        ConfigurationError: a name is unknown, a value is of the wrong type, or the file cannot be read.
    """
    values = _from_file(config_path())
    for known in fields(Connection):
        variable = VARIABLES.get(known.name, f"UNDERCUT_KFP_{known.name.upper()}")
        if os.environ.get(variable):
            values[known.name] = _typed(known.name, os.environ[variable], variable)
    return Connection(**{**values, **{name: value for name, value in flags.items() if value}})


def config_path() -> Path:
    """Return where the file of settings is looked for."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.environ.get("UNDERCUT_CONFIG") or f"{base}/undercut/config.yaml").expanduser()


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        if os.environ.get("UNDERCUT_CONFIG"):
            raise ConfigurationError("UNDERCUT_CONFIG", str(path), "a file of settings")
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), "what cannot be read", "YAML: a mapping of settings") from error
    if not isinstance(content, dict):
        raise ConfigurationError(str(path), type(content).__name__, "YAML: a mapping of settings")
    allowed = [f.name for f in fields(Connection) if f.name not in SECRETS]
    for name in content:
        if name in SECRETS:
            remedy = f"Put it into a file of its own that only you can read, and name that by {name}_file"
            raise ConfigurationError(f"{path}: {name}", "a secret", ", ".join(allowed), remedy)
        if name not in allowed:
            raise ConfigurationError(f"{path}: {name}", str(name), ", ".join(allowed))
    return {name: _typed(name, value, f"{path}: {name}") for name, value in content.items()}


def _typed(name: str, value: Any, where: str) -> Any:
    """Return a setting in its type; the environment has text alone."""
    (default,) = (f.default for f in fields(Connection) if f.name == name)
    if isinstance(default, bool):
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in known:
            raise ConfigurationError(where, value, "true or false")
        return known[str(value).lower()]
    if isinstance(default, float):
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(where, value, "a number of seconds") from error
    if not isinstance(value, str):
        raise ConfigurationError(where, "a secret" if name in SECRETS else value, "a text")
    return value


def _is_header(value: str) -> bool:
    """Tell whether a request's header can hold a value: what cannot would be shown in the HTTP client's error."""
    return value.isascii() and (not value or value.isprintable())


def _split(address: str) -> Any:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise ConfigurationError("endpoint", address, "an address, https://host/path or http://host:port") from error
