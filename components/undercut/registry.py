"""MLflow as Undercut uses it: the connection, and the model registry's versions and aliases.

A registered version carries its folder's digest as a tag; :func:`fetch` refuses any other content.
MLflow is imported by :func:`connect` (it takes seconds), so that this module costs nothing to import.
"""

import errno
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from undercut import artifacts, workspace
from undercut.errors import ConfigurationError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "digest"
MISSED_TAG = "missed"
EXPERIMENT = "undercut"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the page opens on training, not on GenAI
RUN_VARIABLE = "UNDERCUT_MLFLOW_RUN_ID"

# The client's own defaults wait about four minutes for a server that is down.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version in the registry: ``models:/name/number``."""

    name: str
    number: str
    digest: str
    tags: Mapping[str, str]


def connect() -> "MlflowClient":
    """Return a client of :func:`undercut.workspace.tracking_uri`, quiet and with bounded time-outs.

    Nothing is sent until its first call. Takes about three seconds, for MLflow's import.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    uri = workspace.tracking_uri()
    if is_local(uri):
        workspace.home().mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_local(uri: str) -> bool:
    """Return whether MLflow's store is a file of this machine, not a server or a database elsewhere."""
    return urlparse(uri).scheme == "sqlite"


def shown(text: str) -> str:
    """Return an address, or a text with addresses in it, without the passwords that may stand in them."""
    return re.sub(r"(//[^/@:\s]*):[^/\s]*@", r"\1:…@", text)


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return an experiment's id; make it if there is none (with the local store, artifacts go to the workspace)."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = is_local(client.tracking_uri)
        location = (workspace.home() / "mlartifacts").as_uri() if local else None
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another run made it first
    assert found is not None, f"experiment {name} was deleted while it was opened"
    return str(found.experiment_id)


def by_alias(client: "MlflowClient", name: str, alias: str) -> Version | None:
    """Return the version that an alias names, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def by_number(client: "MlflowClient", name: str, number: str) -> Version | None:
    """Return a version by its number, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version(name, number))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def by_dataset(client: "MlflowClient", name: str, digest: str) -> Version | None:
    """Return the newest version that was made from a dataset, or None."""
    return _newest(client, f"name = '{name}' and tags.dataset = '{digest}'")


def by_digest(client: "MlflowClient", name: str, digest: str) -> Version | None:
    """Return the newest version with this content, or None."""
    return _newest(client, f"name = '{name}' and tags.{DIGEST_TAG} = '{digest}'")


def _newest(client: "MlflowClient", query: str) -> Version | None:
    found = [_version(v) for v in client.search_model_versions(query)]
    return max(found, key=lambda version: int(version.number), default=None)


def _version(found: Any) -> Version:
    return Version(
        name=str(found.name),
        number=str(found.version),
        digest=str(found.tags.get(DIGEST_TAG, "")),
        tags=dict(found.tags),
    )


def fetch(client: "MlflowClient", version: Version) -> Path:
    """Return a version's model folder: downloaded once into the workspace, verified by digest each time.

    Raises:
        ConfigurationError: the version was not registered by Undercut, or its content is not what was registered.
    """
    field = f"models:/{version.name}/{version.number}"
    if not re.fullmatch(r"[0-9a-f]{64}", version.digest):
        raise ConfigurationError(field, version.digest, f"a tag {DIGEST_TAG!r} with the model's SHA-256")
    location = client.get_model_version_download_uri(version.name, version.number)
    return download(client, field, location, artifacts.MODEL, version.digest)


def download(client: "MlflowClient", field: str, uri: str, name: str, digest: str) -> Path:
    """Return the sealed folder at an artifact URI of MLflow: downloaded once, verified by digest each time.

    Args:
        client: of the tracking server.
        field: what is downloaded, for messages.
        uri: an MLflow artifact URI, under which there is one folder with the manifest.
        name: the manifest's name.
        digest: the one that the folder must have.

    Raises:
        ConfigurationError: there is no such folder, or its content is another.
    """
    from mlflow.artifacts import download_artifacts

    folder = workspace.home() / "models" / digest
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            download_artifacts(artifact_uri=uri, dst_path=partial, tracking_uri=client.tracking_uri)
            found = sorted(Path(partial).rglob(name))
            if len(found) != 1:
                raise ConfigurationError(field, f"{len(found)} folders with {name}", "one")
            artifacts.verify(found[0].parent, name, digest)
            _put_in_place(found[0].parent, folder)
    artifacts.verify(folder, name, digest)
    return folder


def _put_in_place(found: Path, folder: Path) -> None:
    """Rename a folder, unless another process has brought the same meanwhile."""
    try:
        found.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def note_missed(client: "MlflowClient", name: str, dataset: str, sentence: str) -> None:
    """Note beside a registered name, which need not exist yet, that a dataset gave no model that passes the bar."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"made by": "undercut"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.set_registered_model_tag(name, f"{MISSED_TAG}.{dataset}", sentence[:1000])


def missed(client: "MlflowClient", name: str, dataset: str) -> str | None:
    """Return what :func:`note_missed` noted of a dataset, or None."""
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    found = tags.get(f"{MISSED_TAG}.{dataset}")
    return None if found is None else str(found)


def champion_folder(name: str) -> tuple[Path, Version]:
    """Return the champion's verified model folder and its version (for ``undercut serve``).

    Raises:
        ConfigurationError: there is no champion of that name.
    """
    client = connect()
    champion = by_alias(client, name, CHAMPION)
    if champion is None:
        names = ", ".join(sorted(str(model.name) for model in client.search_registered_models())) or "none yet"
        raise ConfigurationError("model", name, f"a registered model with a champion ({names})", "Run a pipeline first")
    return fetch(client, champion), champion
