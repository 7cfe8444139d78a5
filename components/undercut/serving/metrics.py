"""What the server counts, for Prometheus, at ``/metrics`` beside KServe's own figures.

================================================ ===========================================================
``undercut_requests_total``                      requests, by ``outcome``: answered, refused (4xx), failed
``undercut_requests_in_progress``                requests that wait or are being answered
``undercut_request_duration_seconds``            from the request's arrival to its answer, all included
``undercut_batch_size_texts``                    texts that went through the model at once
``undercut_predict_seconds_total``               seconds of the one thread that predicts, tokenising included
``undercut_price_usd_total``                     the same at the device's price; with ``--usd-per-hour`` only
``undercut_tokens_total``                        tokens as prices count them; where there is a tokenizer
``undercut_model_info``                          the model that answers now: ``digest``, ``candidate``
``undercut_model_loads_total``                   loads, by ``outcome``: swapped, unchanged, refused, failed
``undercut_model_load_duration_seconds``         of a load, until it is swapped or refused
================================================ ===========================================================

Price of a million tokens over an hour:
``1e6 * increase(undercut_price_usd_total[1h]) / increase(undercut_tokens_total[1h])``. Names follow
https://prometheus.io/docs/practices/naming. The registry is the process's, which KServe's server exposes.
"""

import re
import time

from prometheus_client import Counter, Gauge, Histogram, Info
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MODEL = "model_name"
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32)

REQUESTS = Counter("undercut_requests", "Requests by outcome", [MODEL, "outcome"])
IN_PROGRESS = Gauge("undercut_requests_in_progress", "Requests not yet answered", [MODEL])
DURATION = Histogram("undercut_request_duration_seconds", "Arrival to answer", [MODEL], buckets=DURATIONS)
BATCH_SIZE = Histogram("undercut_batch_size_texts", "Texts predicted at once", [MODEL], buckets=SIZES)
PREDICT_SECONDS = Counter("undercut_predict_seconds", "Seconds of the predicting thread", [MODEL])
PRICE = Counter("undercut_price_usd", "Predicting seconds at the device's price", [MODEL])
TOKENS = Counter("undercut_tokens", "Tokens as prices count them", [MODEL])
MODEL_INFO = Info("undercut_model", "The model that answers now", [MODEL])
LOADS = Counter("undercut_model_loads", "Loads by outcome", [MODEL, "outcome"])
LOAD_DURATION = Histogram("undercut_model_load_duration_seconds", "Duration of a load", [MODEL], buckets=DURATIONS)

INFERENCE = re.compile(r"/v1/models/([^/]+):predict|/v2/models/([^/]+)(?:/versions/[^/]+)?/infer")


class RequestMetrics:
    """ASGI middleware: counts and times the requests for predictions to one model, whatever became of them.

    Args:
        app: the next application.
        name: the model's name; requests to other names (all of them 404) are not counted.
    """

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; count it when it ends."""
        found = INFERENCE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if not found or self._name not in found.groups():
            await self._app(scope, receive, send)
            return
        status = 500  # until an answer starts

        async def observe(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        started = time.perf_counter()
        with IN_PROGRESS.labels(self._name).track_inprogress():
            try:
                await self._app(scope, receive, observe)
            finally:
                DURATION.labels(self._name).observe(time.perf_counter() - started)
                outcome = "answered" if status < 400 else "refused" if status < 500 else "failed"
                REQUESTS.labels(self._name, outcome).inc()
