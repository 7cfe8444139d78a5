"""Ask a real server, over HTTP, what the model answers, and hold it against the model itself.

The server is a process of its own on a free loopback port. It watches this process and ends with it,
writes to a file (a child that inherits stdout would keep KFP's runner waiting), and is stopped here.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests

from undercut import answers, events
from undercut.predictors import Predictor

START_SECONDS = 90.0
REQUEST_SECONDS = 30.0
STOP_SECONDS = 10.0
TOLERANCE = 1e-4
# What reading an answer of another form raises.
MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
CHECKS = ("V1 answers", "V2 answers", "health", "bad input refused", "digest")


# What a text is answered: its label, or its labels as a JSON list, and the probabilities that go with it.
Answer = tuple[str, list[float]]


class SmokeTestError(RuntimeError):
    """The served model does not answer, or not as the model itself does."""


class NoAnswerError(SmokeTestError):
    """There is no server, or it did not answer in time."""


def smoke_test(folder: Path, name: str, digest: str, texts: Sequence[str], predictor: Predictor) -> dict[str, Any]:
    """Serve ``folder``, ask for ``texts`` by both protocols, compare.

    Args:
        folder: the model folder.
        name: the model's name.
        digest: the folder's digest, which the server checks.
        texts: at most one batch of the server's.
        predictor: the same model in this process.

    Returns:
        What was done: ``rows``, ``startup_seconds``, ``request_ms`` (V1, one text, median of ten), ``checks``.

    Raises:
        SmokeTestError: with what was expected and what came.
    """
    started = time.perf_counter()
    with _server(folder, name, digest) as (url, session):
        startup = time.perf_counter() - started
        result = ask(session, url, name, digest, texts, predictor)
    return {**result, "startup_seconds": round(startup, 2), "checks": list(CHECKS)}


def smoke_test_at(url: str, name: str, digest: str, texts: Sequence[str], predictor: Predictor) -> dict[str, Any]:
    """Do the same with a server that runs already, such as one in the cluster.

    Raises:
        NoAnswerError: the server cannot be reached.
        SmokeTestError: with what was expected and what came.
    """
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is not for the cluster's Services
        try:
            return {**ask(session, url, name, digest, texts, predictor), "checks": list(CHECKS)}
        except requests.RequestException as error:
            raise NoAnswerError(f"{url} does not answer: {error}") from error
        except MALFORMED as error:
            raise SmokeTestError(f"{url} answers in another form: {error!r}") from error


def ask(
    session: requests.Session, url: str, name: str, digest: str, texts: Sequence[str], predictor: Predictor
) -> dict[str, Any]:
    """Ask the server at ``url`` for ``texts`` by both protocols and compare; returns ``rows`` and ``request_ms``."""
    health = session.get(f"{url}/v2/health/ready", timeout=REQUEST_SECONDS)
    if health.json() != {"ready": True}:
        raise SmokeTestError(f"health: {health.text[:500]}")
    probabilities = predictor.probabilities(texts)
    bodies, tensors = answers.bodies(predictor, probabilities), answers.tensors(predictor, probabilities)
    v1, v2 = f"{url}/v1/models/{name}:predict", f"{url}/v2/models/{name}/infer"
    answer = _post(session, v1, {"instances": list(texts)})
    made_by = answer.headers.get(answers.DIGEST_HEADER, "unknown")
    if made_by != digest:
        raise SmokeTestError(f"the answers are of model {made_by[:12]}, not of {digest[:12]}")
    _compare("V1", [_v1(body) for body in bodies], [_v1(body) for body in answer.json()["predictions"]])
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    outputs = {o["name"]: o["data"] for o in _post(session, v2, {"inputs": [tensor]}).json()["outputs"]}
    _compare("V2", _v2({name: tensors[name].ravel().tolist() for name in outputs}), _v2(outputs))
    refused = session.post(v1, json={"instances": [0]}, timeout=REQUEST_SECONDS).status_code
    if refused != requests.codes.bad_request:
        raise SmokeTestError(f"a request without a text was answered with {refused}, not with 400")
    events.message(f"smoke test: {len(texts)} rows by V1 and V2 equal the model's own answers")
    return {"rows": len(texts), "request_ms": _request_ms(session, v1, texts)}


@contextlib.contextmanager
def _server(folder: Path, name: str, digest: str) -> Iterator[tuple[str, requests.Session]]:
    command = [sys.executable, "-m", "undercut.serving", "--model", str(folder), "--name", name]
    command += ["--port", "0", "--digest", digest]
    environment = {**os.environ, "UNDERCUT_RUN_PID": str(os.getpid())}
    with tempfile.TemporaryDirectory() as scratch, requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is not for the loopback
        log = Path(scratch) / "server.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment
            )
        try:
            yield _wait_until_ready(process, log), session
        except requests.RequestException as error:
            raise SmokeTestError(f"the server does not answer: {error}") from error
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        text = log.read_text()
        ready = re.search(r"^serving .* at (http://\S+)", text, re.MULTILINE)
        if ready:
            return ready[1]
        if ended:
            raise SmokeTestError(f"the server ended with code {process.returncode}: {text.strip()[-2000:]}")
        time.sleep(0.05)
    raise SmokeTestError(f"the server was not ready within {START_SECONDS:.0f} s")


def _post(session: requests.Session, url: str, body: object) -> requests.Response:
    response = session.post(url, json=body, timeout=REQUEST_SECONDS)
    if not response.ok:
        raise SmokeTestError(f"{url}: {response.status_code} {response.text[:500]}")
    return response


def _v1(body: Mapping[str, Any]) -> Answer:
    if "labels" in body:
        return json.dumps(body["labels"], ensure_ascii=False), body["probabilities"]
    return body["label"], [body["probability"]]


def _v2(outputs: Mapping[str, list[Any]]) -> list[Answer]:
    """Return each text's answer from flat tensors: the words, then one probability or all labels'."""
    words, numbers = outputs.values()
    wide = len(numbers) // max(len(words), 1)
    return [(word, numbers[i * wide : (i + 1) * wide]) for i, word in enumerate(words)]


def _compare(protocol: str, wanted: list[Answer], got: list[Answer]) -> None:
    if len(got) != len(wanted):
        raise SmokeTestError(f"{protocol}: {len(got)} answers to {len(wanted)} texts")
    pairs = list(zip(wanted, got, strict=True))
    wrong = [(i, want, have) for i, ((want, _), (have, _)) in enumerate(pairs) if want != have]
    if wrong:
        i, want, have = wrong[0]
        raise SmokeTestError(f"{protocol}: {len(wrong)} of {len(pairs)} labels differ; row {i}: {have}, not {want}")
    apart = [abs(a - b) for (_, want), (_, have) in pairs for a, b in zip(want, have, strict=True)]
    difference = float(np.max(apart, initial=0.0))
    if not difference <= TOLERANCE:  # NaN, which JSON can spell, is no small difference
        raise SmokeTestError(f"{protocol}: probabilities differ by up to {difference:.2g}")


def _request_ms(session: requests.Session, url: str, texts: Sequence[str]) -> float:
    times = []
    for text in texts[:10]:
        started = time.perf_counter()
        _post(session, url, {"instances": [text]})
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 2)
