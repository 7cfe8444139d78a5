"""What the container tests share: a Docker that answers, the two images, and containers that are removed."""

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from undercut.images import SERVE_IMAGE, TRAIN_IMAGE

from tests.conftest import clean_environment, small_rows, write_base_model

PIPELINE = str(Path(__file__).parents[2] / "pipelines" / "lifecycle.py")
UNDERCUT = [sys.executable, "-c", "from undercut.cli.main import main; main()"]


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    """A client of Docker; tests are skipped where there is none, and where the images are not built."""
    try:
        client = docker.from_env()
        for image in (TRAIN_IMAGE, SERVE_IMAGE):
            client.images.get(image)
    except ImageNotFound:
        pytest.skip("the images are not built: make test-containers builds them")
    except DockerException as error:
        pytest.skip(f"Docker does not answer: {error}")
    return client


@pytest.fixture
def start(engine: docker.DockerClient) -> Iterator[Callable[..., Container]]:
    """Start a container in the background; it is removed when the test ends."""
    started: list[Container] = []

    def begin(image: str, command: list[str] | None = None, **options: Any) -> Container:
        started.append(engine.containers.run(image, command, detach=True, **options))
        return started[-1]

    yield begin
    for container in started:
        container.remove(force=True)


@pytest.fixture(scope="session")
def open_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model, in files that every user of this machine may read."""
    folder = write_base_model(tmp_path_factory.mktemp("open") / "base", small_rows())
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def environment(home: Path) -> dict[str, str]:
    """Equal thread counts everywhere: what is learned depends on them."""
    return {**clean_environment(), "UNDERCUT_HOME": str(home), "OMP_NUM_THREADS": "2", "COLUMNS": "160"}


def undercut(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*UNDERCUT, "run", PIPELINE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(home))


@pytest.fixture(scope="session")
def arguments(tmp_path_factory: pytest.TempPathFactory, open_base: Path) -> list[str]:
    source = tmp_path_factory.mktemp("source") / "messages.csv"
    with source.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *small_rows()])
    # fmt: off
    return [
        "--source", str(source), "--base-model", str(open_base),
        "--finetune_settings.epochs", "3", "--finetune_settings.learning_rate", "0.003",
        "--bar.minimum", "0.5", "--bar.maximum_drop", "0.5",
        "--candidates", "finetuned/int8,linear/as-is", "--model-name", "small",
    ]
    # fmt: on


@pytest.fixture(scope="session")
def homes(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str], engine: docker.DockerClient
) -> dict[str, Path]:
    """The workspaces of the same run in processes and in containers."""
    found = {}
    for runner in ("process", "docker"):
        found[runner] = tmp_path_factory.mktemp(runner) / "home"
        done = undercut(found[runner], *arguments, "--runner", runner)
        assert done.returncode == 0, done.stdout + done.stderr
        (found[runner].parent / "shown.txt").write_text(done.stdout)
    return found
