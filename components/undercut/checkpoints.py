"""Training states on disk: written beside and renamed, verified by digest, resumed from the newest good one.

A checkpoint is a folder ``step-00000120`` with ``tensors.safetensors`` (weights, optimizer moments,
random state) and ``state.json`` (counters, curve, and the SHA-256 of the tensors). It is complete or
absent: a kill at any moment leaves at worst a ``.partial`` folder, which the next save removes. A
truncated or altered checkpoint is passed over in favour of the one before it, and said so.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from undercut import artifacts, events
from undercut.errors import ConfigurationError

KEPT = 2


def content_key(**content: object) -> str:
    """Return a short digest of what decides a training's outcome (data, base, settings, code)."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the kernel frees it when the process ends, however it ends.

    Raises:
        ConfigurationError: another process trains the same thing right now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                "checkpoints", str(folder), "one training at a time", "Wait for the other run, or end it"
            ) from None
        yield


def save(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of ``step`` and keep the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"step-{step:08d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, partial / "tensors.safetensors")
    digest = artifacts.file_digest(partial / "tensors.safetensors")
    (partial / "state.json").write_text(json.dumps({**state, "step": step, "sha256": digest}))
    for name in ("tensors.safetensors", "state.json"):
        _sync(partial / name)
    target = partial.with_suffix("")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)
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
    """Load the newest checkpoint that verifies; None if there is none."""
    for path in _complete(folder):
        try:
            state: dict[str, Any] = json.loads((path / "state.json").read_text())
            digest = artifacts.file_digest(path / "tensors.safetensors")
            if digest != state["sha256"]:
                raise ValueError(f"tensors have SHA-256 {digest[:12]}, recorded is {state['sha256'][:12]}")
            return load_file(path / "tensors.safetensors"), state
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            events.message(f"checkpoint {path.name} is damaged and passed over: {error}")
    return None
