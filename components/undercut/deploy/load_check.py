"""Ask a served model for a while, many requests in flight, and hold errors and latency against their limits."""

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests

from undercut import answers, events
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import MALFORMED, REQUEST_SECONDS
from undercut.predictors import Predictor


class LoadCheckError(RuntimeError):
    """The served model fails too often or answers too slowly; ``figures`` has what was measured."""

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.figures = figures


@dataclass
class _Seen:
    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def load_check(url: str, name: str, texts: Sequence[str], predictor: Predictor, config: DeployConfig) -> dict[str, Any]:
    """Send V1 requests of one text from ``load_check_clients`` threads for ``load_check_seconds``.

    Args:
        url: the server's address.
        name: the model's name in the path.
        texts: asked in turns, each client from another one on.
        predictor: the same model in this process; a label that is not its own counts as an error.
        config: how long, how many, and the limits.

    Returns:
        ``requests``, ``errors``, ``error_share``, ``p50_ms``, ``p95_ms``, ``requests_per_second``, ``clients``,
        ``seconds``.

    Raises:
        LoadCheckError: a limit is broken.
    """
    bodies = answers.bodies(predictor, predictor.probabilities(texts))
    wanted = [json.dumps(body.get("labels", body.get("label"))) for body in bodies]
    started = time.monotonic()
    stop = threading.Event()

    def ask(first: int) -> _Seen:
        seen = _Seen()
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not for the cluster's Services
            turn = first
            while not stop.is_set() and time.monotonic() - started < config.load_check_seconds:
                row = turn % len(texts)
                _request(session, f"{url}/v1/models/{name}:predict", texts[row], wanted[row], seen)
                turn += 1
        return seen

    with ThreadPoolExecutor(config.load_check_clients) as pool:
        clients = range(config.load_check_clients)
        running = [pool.submit(ask, i * len(texts) // len(clients)) for i in clients]
        try:
            found = [future.result() for future in running]
        finally:
            stop.set()
    return _judged(found, time.monotonic() - started, config)


def _request(session: requests.Session, url: str, text: str, wanted: str, seen: _Seen) -> None:
    started = time.perf_counter()
    try:
        response = session.post(url, json={"instances": [text]}, timeout=REQUEST_SECONDS)
        response.raise_for_status()
        (answer,) = response.json()["predictions"]
        got = json.dumps(answer.get("labels", answer.get("label")))
        if got != wanted:
            seen.errors.append(f"label {got}, not {wanted}")
    except (requests.RequestException, *MALFORMED) as error:
        seen.errors.append(f"{type(error).__name__}: {error}")
    seen.milliseconds.append((time.perf_counter() - started) * 1000)


def _judged(found: Sequence[_Seen], seconds: float, config: DeployConfig) -> dict[str, Any]:
    times = [value for seen in found for value in seen.milliseconds]
    errors = [error for seen in found for error in seen.errors]
    p50, p95 = (round(float(value), 2) for value in np.percentile(times, [50, 95]))
    figures = {
        "requests": len(times),
        "errors": len(errors),
        "error_share": len(errors) / len(times),
        "p50_ms": p50,
        "p95_ms": p95,
        "requests_per_second": round(len(times) / seconds, 1),
        "clients": config.load_check_clients,
        "seconds": round(seconds, 1),
    }
    events.message(f"load check: {len(times)} requests, {len(errors)} errors, p95 {p95:g} ms")
    if figures["error_share"] > config.maximum_error_share:
        first = f"; the first: {errors[0][:300]}"
        raise LoadCheckError(f"{len(errors)} of {len(times)} requests of the load check failed{first}", figures)
    if p95 > config.maximum_p95_ms:
        limit = f"{config.maximum_p95_ms:g} ms are allowed"
        raise LoadCheckError(f"the 95th percentile of the latency is {p95:g} ms; {limit}", figures)
    return figures
