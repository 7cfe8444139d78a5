"""Dataset, model and evaluation folders: write, seal with a digest, read, verify.

Every artifact is a folder with one JSON manifest that names the SHA-256 of every other file in it.
The manifest's ``digest`` is the SHA-256 of its canonical JSON without ``digest`` and ``ledger``, so
it covers the settings (label names, say) as well as the files. The ledger is written when the step
ends and stays outside the digest: what a model cost does not change what it is.

Nothing here unpickles; a file whose extension or first bytes are not expected is refused.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undercut.errors import ConfigurationError
from undercut.label_sets import multi_hot

if TYPE_CHECKING:  # the serve image reads models, not data sets, and does without
    import pyarrow as pa

DATASET = "dataset.json"
MODEL = "model.json"
EVALUATION = "metrics.json"
PROFILES = "profiles.json"
SELECTION = "selection.json"
DEPLOYMENT = "deployment.json"
TUNING = "tuning.json"
MONITORING = "monitoring.json"
REFERENCE = "reference.json"
MANIFESTS = (DATASET, MODEL, EVALUATION, PROFILES, SELECTION, DEPLOYMENT, TUNING, MONITORING, REFERENCE)

SPLITS = ("train", "validation", "test")
SUFFIXES = {".json", ".safetensors", ".onnx", ".parquet", ".txt", ".data"}

Manifest = dict[str, Any]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _content_digest(manifest: Mapping[str, Any]) -> str:
    content = {k: v for k, v in manifest.items() if k not in ("digest", "ledger")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _content_files(folder: Path, name: str) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder) != Path(name)]


def seal(folder: Path, name: str, content: Mapping[str, Any]) -> Manifest:
    """Write the manifest ``name`` into ``folder``: content, the files' digests, the digest of both.

    Written last and by rename, so that a folder with a manifest is a complete one.
    """
    manifest: Manifest = json.loads(json.dumps({k: v for k, v in content.items() if k != "ledger"}))
    files = _content_files(folder, name)
    for path in files:
        if not path.stat().st_mode & 0o004:  # safetensors writes for its own user alone; who serves may be another
            path.chmod(0o644)
    manifest["files"] = {p.relative_to(folder).as_posix(): file_digest(p) for p in files}
    manifest["bytes"] = sum(p.stat().st_size for p in files)
    manifest["digest"] = _content_digest(manifest)
    manifest["ledger"] = list(content.get("ledger", []))
    write_json(folder / name, manifest)
    return manifest


def content(manifest: Mapping[str, Any]) -> Manifest:
    """Return a manifest without what sealing adds: the start of a derived artifact's manifest."""
    return {k: v for k, v in manifest.items() if k not in ("files", "bytes", "digest")}


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy an artifact's files by hard link, or by content where the file system has no links."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (target / name).hardlink_to(source / name)
        except OSError:
            shutil.copyfile(source / name, target / name)


def write_json(path: Path, content: object) -> None:
    """Write JSON by rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def manifest_name(folder: Path) -> str | None:
    """Return the name of the manifest that ``folder`` holds, or None."""
    return next((name for name in MANIFESTS if (folder / name).is_file()), None)


def load(folder: Path, name: str) -> Manifest:
    """Read a manifest without checking the files (for display and for artifacts of the same run).

    Raises:
        ConfigurationError: there is none, or it is no JSON object.
    """
    path = folder / name
    if not path.is_file():
        raise ConfigurationError(name, str(folder), f"a folder that holds {name}", "Check the path")
    try:
        manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _tampered(folder, name, f"not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise _tampered(folder, name, "not a JSON object")
    return manifest


def verify(folder: Path, name: str, expected: str | None = None) -> Manifest:
    """Read a manifest and check every file against it.

    Args:
        folder: the artifact's folder.
        name: its manifest, for example ``model.json``.
        expected: the digest recorded elsewhere (a registry); None trusts the manifest's own.

    Raises:
        ConfigurationError: a file is missing, extra, altered, of a type not allowed, or the manifest
            itself was altered.
    """
    manifest = load(folder, name)
    if manifest.get("digest") != _content_digest(manifest):
        raise _tampered(folder, name, "its settings do not match its digest")
    if expected and manifest["digest"] != expected:
        raise _tampered(folder, name, f"digest {manifest['digest'][:12]} is not the recorded {expected[:12]}")
    present = {p.relative_to(folder).as_posix(): p for p in _content_files(folder, name)}
    if present.keys() != manifest["files"].keys():
        odd = sorted(present.keys() ^ manifest["files"].keys())
        raise _tampered(folder, odd[0], "missing or not listed in the manifest")
    for relative, path in present.items():
        _check_type(folder, path)
        if file_digest(path) != manifest["files"][relative]:
            raise _tampered(folder, relative, "its SHA-256 is not the recorded one")
    return manifest


def _check_type(folder: Path, path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise _tampered(folder, path.name, f"file type not allowed (allowed: {', '.join(sorted(SUFFIXES))})")
    with path.open("rb") as stream:
        head = stream.read(9)
    if path.suffix == ".parquet" and head[:4] != b"PAR1":
        raise _tampered(folder, path.name, "not a Parquet file")
    if path.suffix == ".safetensors" and (len(head) < 9 or head[8:9] != b"{"):
        raise _tampered(folder, path.name, "not a safetensors file")
    if path.suffix == ".onnx" and head[:1] != b"\x08":
        raise _tampered(folder, path.name, "not an ONNX file")


def _tampered(folder: Path, part: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{folder.name}/{part}", why, "a file as it was recorded", "Restore the folder or produce it again"
    )


def split_files(folder: Path, split: str) -> list[Path]:
    """Return a split's Parquet shards in order; empty if the dataset has no such split."""
    return sorted([*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")])


def read_split(folder: Path, split: str, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read one split of a dataset folder.

    Raises:
        ConfigurationError: the dataset has no such split.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = split_files(folder, split)
    if not files:
        raise ConfigurationError("split", split, f"a split of {folder.name}")
    wanted = list(columns) if columns is not None else None
    return pa.concat_tables([pq.read_table(p, columns=wanted) for p in files])


def texts_and_labels(folder: Path, split: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return the texts and label indices, shape (rows,), of a classification split.

    Of a multi-label data set, whose rows hold lists of indices: zeros and ones, shape (rows, labels).
    """
    import pyarrow as pa

    table = read_split(folder, split, ["text", "label"])
    if pa.types.is_list(table["label"].type):
        return table["text"].to_pylist(), multi_hot(table["label"], len(load(folder, DATASET)["labels"]))
    return table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)
