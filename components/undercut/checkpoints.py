"""Training states on disk: written beside and renamed, verified by digest, resumed from the newest good one.

A checkpoint is a folder ``step-00000120`` with ``tensors.safetensors`` (weights, optimizer moments,
random state) and ``state.json`` (counters, curve, and the SHA-256 of the tensors). It is complete or
absent: a kill at any moment leaves at worst a ``.partial`` folder, which the next save removes. A
truncated or altered checkpoint is passed over in favour of the one before it, and said so.

Where ``UNDERCUT_CHECKPOINTS=s3://bucket/prefix`` is set, what is saved here is uploaded beside the training
(:mod:`undercut.checkpoint_store`), and a training that finds nothing here begins with what is there. A folder
is called the same in both: by its path in the workspace, whose middle is the digest of what decides the
training's outcome. Of several processes that train together only the first (``RANK``) saves and uploads.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from undercut import artifacts, events, workspace
from undercut.errors import Unavailable

if TYPE_CHECKING:
    from undercut.checkpoint_store import Store

KEPT = 2
# How long the end of a training waits for the store.
FINAL_SECONDS = 15.0


def content_key(**content: object) -> str:
    """Return a short digest of what decides a training's outcome (data, base, settings, code)."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the kernel frees it when the process ends, however it ends.

    Raises:
        Unavailable: another process trains the same thing right now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "checkpoints", str(folder), "one training at a time", "Wait for the other run, or end it"
            ) from None
        yield


def store() -> "Store | None":
    """Return the store that the environment names, or None; boto3 is imported only if there is one."""
    uri = os.environ.get("UNDERCUT_CHECKPOINTS")
    if not uri:
        return None
    from undercut import checkpoint_store

    return checkpoint_store.opened(uri)


def writes() -> bool:
    """Tell whether this process is the one of its training that saves: the only one, or the first."""
    return os.environ.get("RANK", "0") == "0"


def _name(path: Path) -> str:
    """Return what a path of the workspace is called in the store, the same on each machine."""
    name = path.resolve().relative_to(workspace.home()).as_posix()
    return name.removeprefix("checkpoints/")


def due(since: float, seconds: float) -> bool:
    """Tell whether to save now, so that a loss at any moment costs ``seconds`` at most.

    A checkpoint protects once it is stored, so the next one is taken earlier by as long as the last ones took,
    though never before half of the interval: where they take longer than that, it is said once, for then a loss
    may cost more, up to twice what an upload takes and half of the interval. The first of a process is taken
    after that half.

    Args:
        since: ``time.monotonic()`` after the last save.
        seconds: the interval; 0 for never.
    """
    remote = store() if seconds and writes() else None
    lag = min(remote.uploads.lag_seconds, seconds / 2) if remote else 0.0
    if remote and remote.uploads.slower_than(seconds / 2):
        took = f"a checkpoint took {remote.uploads.lag_seconds:.0f} s to be stored"
        events.message(f"{took}: a lost machine may cost more than {seconds:g} s, raise checkpoint_seconds")
    return bool(seconds) and time.monotonic() - since >= seconds - lag


def save(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of ``step``, keep the newest two, and begin to upload it if there is a store."""
    taken = time.monotonic()
    target = folder / f"step-{step:08d}"
    if not writes():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, partial / "tensors.safetensors")
    digest = artifacts.file_digest(partial / "tensors.safetensors")
    (partial / "state.json").write_text(json.dumps({**state, "step": step, "sha256": digest}))
    for name in ("tensors.safetensors", "state.json"):
        _sync(partial / name)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)
    if remote := store():
        remote.send_checkpoint(_name(folder), target, digest, taken)
    for old in _complete(folder)[KEPT:]:
        shutil.rmtree(old)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complete(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*") if p.suffix == ""), reverse=True)


def newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Load the newest checkpoint that verifies, from here or else from the store; None if there is none.

    Raises:
        ConfigurationError: the store refuses to be read, or does not answer.
    """
    found = next((loaded for path in _complete(folder) if (loaded := _load(path))), None)
    remote = store()
    if found or remote is None:
        return found
    for path in remote.checkpoints(_name(folder), folder):
        if loaded := _load(path):
            events.message(f"checkpoint {path.name} was fetched from {remote.uri}")
            return loaded
        shutil.rmtree(path)
    return None


def _load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
        digest = artifacts.file_digest(path / "tensors.safetensors")
        if digest != state["sha256"]:
            raise ValueError(f"tensors have SHA-256 {digest[:12]}, recorded is {state['sha256'][:12]}")
        return load_file(path / "tensors.safetensors"), state
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        events.message(f"checkpoint {path.name} is damaged and passed over: {error}")
        return None


def remember(path: Path, snapshot: Path | None = None) -> None:
    """Upload a file of a training's folder that a resumed training needs, if there is a store.

    Args:
        path: the file; it may be replaced later, and be remembered again.
        snapshot: a copy to upload in the place of a file that is changed where it is; may be removed at once.
    """
    if writes() and (remote := store()):
        content = snapshot or path
        remote.send_file(_name(path), content, artifacts.file_digest(content))


def recall(path: Path) -> bool:
    """Tell whether a remembered file is here; it is fetched where only the store has it.

    Raises:
        ConfigurationError: the store refuses to be read, or does not answer.
    """
    if path.is_file():
        return True
    remote = store()
    return remote is not None and remote.fetch_file(_name(path), path)


def remove(folder: Path) -> None:
    """Remove the folder of a training whose outcome is recorded elsewhere, here and in the store."""
    if not writes():
        return
    shutil.rmtree(folder)
    if remote := store():
        remote.remove(_name(folder), FINAL_SECONDS)


def finish(folder: Path) -> None:
    """Remove the folder of a training whose model is written; the store keeps its last states.

    The pod may still be lost before its outputs are uploaded: the next attempt then begins at the end, and has
    nothing left to train. The store's own rule of expiry removes them.
    """
    if not writes():
        return
    shutil.rmtree(folder)
    flush(FINAL_SECONDS)


def flush(seconds: float) -> bool:
    """Wait until all that was saved is stored, ``seconds`` at most; False if something is not."""
    remote = store()
    return remote is None or remote.uploads.flush(seconds)
