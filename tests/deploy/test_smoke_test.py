"""What the smoke test catches, with real servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from undercut import artifacts
from undercut.deploy.load_check import LoadCheckError, load_check
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import SmokeTestError, _compare, smoke_test, smoke_test_at
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


@pytest.mark.parametrize("body", ["[]", '"x"', '{"predictions": ["x"]}', '{"predictions": null}'])
def test_a_server_of_another_form_is_named_and_taken_back(linear_model: Path, body: str) -> None:
    """A proxy in between, or another program on the port: no traceback, whatever it says."""

    class Lying(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = ('{"ready": true}' if self.path.endswith("ready") else body).encode()
            self.send_response(200)
            self.send_header("undercut-model-digest", digest)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            return

        do_GET = do_POST = answer  # noqa: N815

    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    predictor = load_predictor(linear_model)
    with HTTPServer(("127.0.0.1", 0), Lying) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(SmokeTestError, match="answers in another form"):
            smoke_test_at(url, "shop", digest, ["x"], predictor)
        if body.startswith("{"):
            config = DeployConfig(model_name="shop", load_check_seconds=1, load_check_clients=1)
            with pytest.raises(LoadCheckError, match="requests of the load check failed; the first: "):
                load_check(url, "shop", ["x"], predictor, config)
        server.shutdown()


def test_a_probability_that_is_no_number_is_a_difference() -> None:
    right, wrong = [("refund", [0.5]), ("track", [0.5])], [("refund", [float("nan")]), ("track", [0.5])]
    with pytest.raises(SmokeTestError, match="V1: probabilities differ by up to nan"):
        _compare("V1", right, wrong)
    _compare("V1", right, right)
