"""SIGTERM: no new connection, and every request in flight is answered."""

import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

CLIENTS = 4
LONG = ["where is my refund, i have waited for days " * 20] * 512


def in_progress(url: str) -> float:
    found = re.search(
        r"^undercut_requests_in_progress\S* (\S+)$", requests.get(f"{url}/metrics", timeout=30).text, re.M
    )
    return float(found[1]) if found else 0.0


def test_requests_in_flight_are_answered(linear_model: Path, start_server: Callable[..., Any]) -> None:
    server = start_server("--model", str(linear_model), "--name", "shop", "--grace-seconds", "60")
    answered: list[tuple[int, int, float]] = []

    def ask() -> None:
        response = requests.post(f"{server.url}/v1/models/shop:predict", json={"instances": LONG}, timeout=60)
        answered.append((response.status_code, len(response.json()["predictions"]), time.monotonic()))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while in_progress(server.url) < CLIENTS:
        assert not answered, "the requests are too short to be stopped in the middle"
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert [(status, texts) for status, texts, _ in answered] == [(200, len(LONG))] * CLIENTS
    assert all(when > stopped for _, _, when in answered)
    assert server.process.wait(30) in (0, -signal.SIGTERM)
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=5)
