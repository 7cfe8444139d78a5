"""What the smoke test catches, with real servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from undercut import artifacts
from undercut.deploy.smoke_test import SmokeTestError, smoke_test
from undercut.predictors import load_predictor


@pytest.mark.slow
def test_another_models_answers_are_caught(
    linear_model: Path, small_data: Path, tmp_path: Path, make_linear_model: Callable[..., Path]
) -> None:
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    other = load_predictor(make_linear_model(tmp_path / "other", small_data, labels=["refund", "cancel", "track"]))
    with pytest.raises(SmokeTestError, match=r"V1: \d+ of 20 labels differ; row \d+: "):
        smoke_test(linear_model, "shop", digest, texts[:20], other)
    fewer = load_predictor(make_linear_model(tmp_path / "fewer", small_data, rows=200))
    sure = [t for t in texts if (fewer.probabilities([t]).max() > 0.9)][:5]
    with pytest.raises(SmokeTestError, match="V1: probabilities differ by up to"):
        smoke_test(linear_model, "shop", digest, sure, fewer)


def test_a_server_that_does_not_start_says_why(linear_model: Path) -> None:
    with pytest.raises(SmokeTestError, match=r"ended with code 2: serve: model/model\.json: .* is not the recorded"):
        smoke_test(linear_model, "shop", "0" * 64, ["x"], load_predictor(linear_model))


def test_the_server_ends_with_the_step(linear_model: Path) -> None:
    """The step is killed in the middle of the test; nothing is left, and its stdout is closed."""
    code = (
        "import sys, time; from pathlib import Path; from undercut.deploy import smoke_test as s\n"
        "with s._server(Path(sys.argv[1]), 'shop', sys.argv[2]): print('up', flush=True); time.sleep(60)"
    )
    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    step = subprocess.Popen([sys.executable, "-c", code, str(linear_model), digest], stdout=subprocess.PIPE)
    assert step.stdout is not None
    assert step.stdout.readline() == b"up\n"
    (server,) = psutil.Process(step.pid).children()
    os.kill(step.pid, signal.SIGKILL)
    started = time.monotonic()
    assert step.stdout.read() == b""  # a server that held stdout would keep this open
    assert time.monotonic() - started < 1
    server.wait(10)
    step.wait()
    step.stdout.close()
