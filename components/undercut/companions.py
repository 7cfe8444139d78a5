"""What is kept beside a registered version: the fine-tuned model that it was made from, and its reference.

A served model is small and cannot be fine-tuned further; its teacher can (``models://NAME@champion``). The
reference (``reference.py``) is what a later run compares its data with. Both are sealed folders, stored as
artifacts of the version's MLflow run, apart from the model: who serves it does not fetch them. Tags of the
version hold their digests.
"""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from undercut import artifacts, registry
from undercut.errors import ConfigurationError
from undercut.reference import read_reference, write_reference
from undercut.samples import Progress

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEME = "models://"
MANIFESTS = {"teacher": artifacts.MODEL, "reference": artifacts.REFERENCE}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model that is registered comes from: its dataset's folder, and its teacher's where it is known."""

    data: Path
    teacher: Path | None = None


def keep(
    client: "MlflowClient",
    version: registry.Version,
    model: Path,
    origin: Origin,
    progress: Progress | None = None,
) -> registry.Version:
    """Keep the teacher and a reference beside a version; what it has already stays. Returns it with its tags.

    Args:
        client: of the registry.
        version: the version.
        model: its model folder.
        origin: its dataset and its teacher.
        progress: told the share of the reference that is measured.
    """
    teacher = origin.teacher
    if teacher and artifacts.load(teacher, artifacts.MODEL)["digest"] != version.digest:
        _store(client, version, "teacher", teacher)
    if "reference" not in version.tags:
        with tempfile.TemporaryDirectory() as folder:
            write_reference(model, origin.data, Path(folder), progress=progress)
            _store(client, version, "reference", Path(folder))
    return replace(version, tags=dict(client.get_model_version(version.name, version.number).tags))


def teacher(client: "MlflowClient", version: registry.Version) -> Path | None:
    """Return the folder of the fine-tuned model that a version was made from, verified, or None.

    A version that is the fine-tuned model as it is, is its own teacher.
    """
    if "teacher" in version.tags:
        return _fetch(client, version, "teacher")
    folder = registry.fetch(client, version)
    manifest = artifacts.load(folder, artifacts.MODEL)
    own = manifest["format"] == "torch" and manifest["structure"] == "finetuned"
    return folder if own else None


def reference(client: "MlflowClient", version: registry.Version) -> Path | None:
    """Return the folder of a version's reference, verified, or None where it was registered without one."""
    return _fetch(client, version, "reference") if "reference" in version.tags else None


def learnt(client: "MlflowClient", version: registry.Version) -> frozenset[int]:
    """Return :func:`undercut.samples.key` of each text that a version learnt from; none where nobody noted them."""
    folder = reference(client, version)
    return read_reference(folder).learnt if folder else frozenset()


def from_registry(uri: str, field: str, _pinned: str) -> Path:
    """Return the teacher of a registered version: ``models://NAME@ALIAS`` or ``models://NAME@NUMBER``.

    Args:
        uri: the version.
        field: the setting that names it.
        _pinned: not used: the version's own tag names the digest.

    Raises:
        ConfigurationError: there is no such version, or none was kept beside it.
    """
    name, mark, which = uri.removeprefix(SCHEME).rpartition("@")
    if not mark or not name or not which:
        raise ConfigurationError(field, uri, "models://NAME@champion, or @ and a version's number")
    client = registry.connect()
    numbered = re.fullmatch(r"\d+", which)
    found = registry.by_number(client, name, which) if numbered else registry.by_alias(client, name, which)
    if found is None:
        uri_shown = registry.shown(client.tracking_uri)
        raise ConfigurationError(field, uri, f"a version in the registry at {uri_shown}", "Run a pipeline first")
    folder = teacher(client, found)
    if folder is None:
        remedy = "Deploy with the fine-tuned model as teacher, or start from another base"
        raise ConfigurationError(field, uri, "a version with its fine-tuned model kept beside it", remedy)
    return folder


def _store(client: "MlflowClient", version: registry.Version, kind: str, folder: Path) -> None:
    """Upload, then tag: a version with the tag has all of it."""
    if kind in version.tags:
        return
    digest = artifacts.load(folder, MANIFESTS[kind])["digest"]
    client.log_artifacts(_run(client, version), str(folder), f"{kind}/{digest}")
    client.set_model_version_tag(version.name, version.number, kind, digest)


def _fetch(client: "MlflowClient", version: registry.Version, kind: str) -> Path:
    digest = version.tags[kind]
    field = f"{SCHEME}{version.name}@{version.number} {kind}"
    uri = f"runs:/{_run(client, version)}/{kind}/{digest}"
    return registry.download(client, field, uri, MANIFESTS[kind], digest)


def _run(client: "MlflowClient", version: registry.Version) -> str:
    return str(client.get_model_version(version.name, version.number).run_id)
