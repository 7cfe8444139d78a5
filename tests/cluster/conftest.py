"""A stand-in for a cluster's Kubeflow Pipelines, a small pipeline, and the command line against them."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from undercut.cli.main import main

from tests.cluster.fake_kfp import FakeKfp

PIPELINE = '''
from kfp import dsl

URIS = ("source",)


@dsl.component(base_image="undercut-train-python:0.1.0", install_kfp_package=False)
def read(source: str) -> str:
    return source


@dsl.component(base_image="undercut-train-python:0.1.0", install_kfp_package=False)
def train(text: str, epochs: int, settings: dict) -> str:
    return text


@dsl.pipeline(name="small")
def small(source: str, epochs: int = 3, settings: dict = {"rate": 0.1}):
    """A pipeline of two steps.

    Args:
        source: rows.
        epochs: passes.
        settings: more.
    """
    text = read(source=source)
    train(text=text.output, epochs=epochs, settings=settings)
'''


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Undercut = Callable[..., Done]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, no waiting between two questions."""
    for name in os.environ:
        if name.startswith(("UNDERCUT_KFP_", "KF_PIPELINES_", "KUBE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("UNDERCUT_KFP_POLL_SECONDS", "0.01")


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKfp]:
    """A server of its own for each test; commands find it through the environment."""
    fake = FakeKfp()
    server = fake.start()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A file with a pipeline of two steps."""
    path = tmp_path / "small.py"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def undercut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Undercut:
    """The command, in this process."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["undercut", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, printed.out, printed.err)

    return call
