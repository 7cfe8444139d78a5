"""From a pipeline file to a run on a cluster: arguments that pods can follow, compilation, upload, start.

A pipeline's version is named by the digest of what was compiled: the same content is uploaded once. The
arguments are no part of it, they belong to each run.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import yaml
from kfp_server_api import V2beta1Pipeline

from undercut import storage
from undercut.cli.pipeline_file import PipelineFile
from undercut.cluster.connection import Client, quiet
from undercut.cluster.refusals import Refusal
from undercut.errors import ConfigurationError

DIGITS = 16  # of the digest, in a version's name
EQUALS = 1  # of KFP's filters
CONFLICT = 409
# A login within an address: everyone who sees a run sees its arguments.
_LOGIN = re.compile(r"://[^/?#@]*:[^/?#@]*@")


class LocalPath(ConfigurationError):
    """A source that only this machine has."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A pipeline's version on the cluster."""

    pipeline_id: str
    id: str
    name: str
    uploaded: bool


def check_sources(pipeline: PipelineFile, arguments: Mapping[str, Any]) -> list[str]:
    """Check the arguments that name data without fetching it, and return which KFP's cache knows by name alone.

    Those are not pinned by content, and are read by a step that may be taken from the cache.

    Raises:
        LocalPath: it is a path of this machine.
        ConfigurationError: its scheme is unknown, or it holds a secret.
    """
    unpinned = []
    for name in pipeline.uris:
        uri = str(arguments[name] or "")
        if not uri:
            continue
        check_source(name, uri)
        # A package's content changes with the image only.
        if not uri.startswith("pkg://") and storage.without_pin(uri) == uri and _is_cached(pipeline, name):
            unpinned.append(name)
    return unpinned


def check_source(name: str, uri: str) -> None:
    """Check one argument that names data, without fetching it.

    Pods read the sources, with the cluster's rights: this machine may not reach them at all. What only this
    machine has is refused. A file inside the step's container, on a volume or in the image, is ``file://``.

    Raises:
        LocalPath: it is a path of this machine.
        ConfigurationError: its scheme is unknown, or it holds a secret, which every viewer of a run would see.
    """
    from undercut import databases, web

    bare = storage.without_pin(uri)
    scheme, mark, _ = bare.partition("://")
    if not mark:
        remedy = "Copy it where pods can read it (s3://bucket/key); file:///path is a path inside the step's pod"
        raise LocalPath(name, bare, "a URI: pods do not see this machine", remedy)
    scheme = "sql+" if scheme.lower().startswith("sql+") else scheme.lower()
    if scheme == "sql+":
        databases.parse(bare, name)
    elif scheme in ("http", "https"):
        web.refuse_secrets(bare, name)
    elif _LOGIN.search(bare):
        remedy = "A run's settings are shown to others: put it into the Secret that resources.secret names"
        raise ConfigurationError(name, _LOGIN.sub("://***@", bare), "an address without a login", remedy)
    if scheme not in storage.SCHEMES:
        allowed = ", ".join(f"{s}://" for s in storage.SCHEMES if s).replace("sql+", "sql+DIALECT")
        raise ConfigurationError(name, bare, allowed)


def compile_pipeline(pipeline: PipelineFile, target: Path, arguments: Mapping[str, Any], caching: bool = True) -> str:
    """Write the compiled pipeline and return the SHA-256 of its content.

    Args:
        pipeline: loaded with the compile-time options.
        target: the YAML file.
        arguments: what become the inputs' defaults.
        caching: False compiles every step so that it never takes a result from the cache. KFP's client drops
            its own option for that where a run names an uploaded version.
    """
    pipeline.compile(target, arguments)
    if not caching:
        _disable_caching(target)
    # Without KFP's comments, in which the order of a mapping's keys differs from process to process.
    lines = target.read_text(encoding="utf-8").splitlines()
    return hashlib.sha256("\n".join(line for line in lines if not line.startswith("#")).encode()).hexdigest()


def upload(client: Client, pipeline: PipelineFile, caching: bool = True) -> Version:
    """Compile a pipeline and have its version on the cluster; nothing is sent where it is there.

    Raises:
        Refusal: the cluster does not answer, or refuses.
    """
    with TemporaryDirectory() as folder:
        target = Path(folder) / f"{pipeline.name}.yaml"
        digest = compile_pipeline(pipeline, target, {}, caching)
        # Where KFP keeps pipelines in Kubernetes, a version's name is one of the namespace's: hence the prefix.
        name = f"{pipeline.name}-{digest[:DIGITS]}"
        pipeline_id = _pipeline_id(client, pipeline)
        version = _version_id(client, pipeline_id, name)
        if version:
            return Version(pipeline_id=pipeline_id, id=version, name=name, uploaded=False)
        try:
            with quiet():
                made = client.upload_pipeline_version(
                    str(target), name, pipeline_id=pipeline_id, description=pipeline.description
                )
        except Refusal as error:
            version = _version_id(client, pipeline_id, name) if error.status == CONFLICT else ""
            if not version:
                raise
            return Version(pipeline_id=pipeline_id, id=version, name=name, uploaded=False)
    return Version(pipeline_id=pipeline_id, id=made.pipeline_version_id, name=name, uploaded=True)


def experiment_id(client: Client, name: str) -> str:
    """Return the id of the experiment of that name, which is made where it is missing.

    Raises:
        Refusal: the cluster does not answer, or refuses.
    """
    found = _find_experiment(client, name)
    if found:
        return found
    try:
        with quiet():
            return str(client.create_experiment(name, namespace=client.profile).experiment_id)
    except Refusal as error:
        found = _find_experiment(client, name) if error.status == CONFLICT else ""
        if not found:
            raise
        return found


def start(client: Client, version: Version, arguments: Mapping[str, Any], name: str, experiment: str) -> str:
    """Start a run of a version and return its id.

    Args:
        client: connected.
        version: what runs.
        arguments: all of the pipeline's arguments.
        name: of the run.
        experiment: the id of the run's experiment.

    Raises:
        Refusal: the cluster does not answer, or refuses.
    """
    with quiet():
        run = client.run_pipeline(
            experiment,
            name,
            params=dict(arguments),
            pipeline_id=version.pipeline_id,
            version_id=version.id,
            service_account=client.settings.service_account or None,
        )
    return str(run.run_id)


def name_is(value: str, key: str = "display_name") -> str:
    """Return KFP's filter for what is called ``value``.

    Encoded, because the server decodes a filter once more than the request: a ``+`` would become a space. Its
    database may compare without regard to case, so what it finds still has to be compared.
    """
    return quote(json.dumps({"predicates": [{"operation": EQUALS, "key": key, "stringValue": value}]}))


def _disable_caching(target: Path) -> None:
    """Rewrite a compiled pipeline so that no step is taken from the cache."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML has it: seconds faster
    documents = list(yaml.load_all(target.read_text(encoding="utf-8"), loader))
    dags = [documents[0]["root"], *documents[0].get("components", {}).values()]
    for task in (task for dag in dags for task in dag.get("dag", {}).get("tasks", {}).values()):
        task["cachingOptions"] = {}
    target.write_text(yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True), encoding="utf-8")


def _is_cached(pipeline: PipelineFile, name: str) -> bool:
    """Tell whether a step that may be taken from the cache gets this input."""
    return any(
        task.caching_options.enable_cache
        and any(given.component_input_parameter == name for given in task.inputs.parameters.values())
        for task in pipeline.pipeline.pipeline_spec.root.dag.tasks.values()
    )


def _pipeline_id(client: Client, pipeline: PipelineFile) -> str:
    """Return the pipeline's id; it is made where it is missing, without a version: that comes by its own name."""
    found = _find_pipeline(client, pipeline.name)
    if found:
        return found
    body = V2beta1Pipeline(
        display_name=pipeline.name, name=pipeline.name, description=pipeline.description, namespace=client.profile
    )
    try:
        return str(client.pipelines.pipeline_service_create_pipeline(pipeline=body).pipeline_id)
    except Refusal as error:
        found = _find_pipeline(client, pipeline.name) if error.status == CONFLICT else ""
        if not found:
            raise
        return found


def _find_pipeline(client: Client, name: str) -> str:
    found = client.list_pipelines(filter=name_is(name), namespace=client.profile).pipelines or []
    return next((str(p.pipeline_id) for p in found if p.display_name == name), "")


def _version_id(client: Client, pipeline_id: str, name: str) -> str:
    found = client.list_pipeline_versions(pipeline_id, filter=name_is(name)).pipeline_versions or []
    return next((str(v.pipeline_version_id) for v in found if v.display_name == name), "")


def _find_experiment(client: Client, name: str) -> str:
    found = client.list_experiments(filter=name_is(name), namespace=client.profile).experiments or []
    return next((str(e.experiment_id) for e in found if e.display_name == name), "")
