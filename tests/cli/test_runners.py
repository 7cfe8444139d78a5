"""``--runner``: what is refused before anything runs; no Docker needed."""

import sys
from pathlib import Path

import docker
import pytest
from undercut.cli import docker_runtime
from undercut.cli.docker_runtime import Containers
from undercut.cli.runners import check_runner
from undercut.errors import ConfigurationError


def test_an_unknown_runner_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"--runner: got 'podman'; allowed: process or docker\."):
        check_runner("podman")


def test_without_docker_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(
        ConfigurationError, match=r"a Docker that answers .*Start Docker, or leave --runner out"
    ) as said:
        Containers([])
    assert len(str(said.value).splitlines()) == 1


def test_an_image_that_is_not_built_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        docker.from_env()
    except docker.errors.DockerException as error:
        pytest.skip(f"Docker does not answer: {error}")
    monkeypatch.setattr(docker_runtime, "TRAIN_IMAGE", "undercut-train-python:of-another-day")
    with pytest.raises(ConfigurationError, match=r"of-another-day on this machine\. Build it: make images"):
        Containers([])


def test_paths_are_mounted_and_addresses_are_not(tmp_path: Path) -> None:
    pin = "#sha256=" + "0" * 64
    assert docker_runtime._mountable(f"{tmp_path}/rows.csv{pin}") == tmp_path / "rows.csv"
    assert docker_runtime._mountable(f"file://{tmp_path}/a%20b.csv{pin}") == tmp_path / "a b.csv"
    for uri in (
        "",
        "s3://bucket/key",
        "hf://datasets/a/b",
        "pkg://package/model",
        "sql+sqlite:////x.db#query=SELECT 1",
    ):
        assert docker_runtime._mountable(uri) is None


def test_nothing_of_it_is_imported_for_other_runs() -> None:
    import undercut.cli.runners  # noqa: F401

    assert sys.modules["undercut.cli.runners"].containers("process", None, {}, None) is None  # type: ignore[attr-defined]
