"""What the container tests share: a Docker that answers, the two images, and containers that are removed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from undercut.images import SERVE_IMAGE, TRAIN_IMAGE

from tests.conftest import small_rows, write_base_model


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


@pytest.fixture(scope="module")
def open_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model, in files that every user of this machine may read."""
    folder = write_base_model(tmp_path_factory.mktemp("open") / "base", small_rows())
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder
