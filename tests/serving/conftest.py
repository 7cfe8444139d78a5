"""A real server process, and models for it that are easy to tell apart."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from undercut import artifacts


@dataclass(frozen=True)
class Server:
    """A running server: its process, its address, and the file that it writes to."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"at (http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start ``python -m undercut.serving`` with arguments, on a free port; ended with the session."""
    with contextlib.ExitStack() as started:

        def start(*arguments: str, command: tuple[str, ...] = ("-m", "undercut.serving"), **environment: str) -> Server:
            log = tmp_path_factory.mktemp("server") / "log"
            with log.open("w") as stream:
                process = subprocess.Popen(
                    [sys.executable, *command, "--port", "0", *arguments],
                    stdout=stream,
                    stderr=stream,
                    env={**os.environ, **environment},
                )
            started.callback(process.wait)
            started.callback(process.kill)
            return Server(process, wait_for_address(process, log), log)

        yield start


@pytest.fixture(scope="session")
def two_models(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, make_linear_model: Callable[..., Path]
) -> tuple[Path, Path]:
    """Two models with the same labels that disagree on every text: the second's weights are turned by one label."""
    folder = tmp_path_factory.mktemp("two")
    first, second = (make_linear_model(folder / name, small_data) for name in "ab")
    tensors = load_file(second / "weights.safetensors")
    tensors["weights"] = np.ascontiguousarray(np.roll(tensors["weights"], 1, axis=1))
    save_file(tensors, second / "weights.safetensors")
    artifacts.seal(second, artifacts.MODEL, artifacts.content(artifacts.load(second, artifacts.MODEL)))
    return first, second
