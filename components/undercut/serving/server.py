"""Serve a model folder over HTTP with KServe's Python server: V1 and V2 REST, health, metrics, hot swap.

    POST /v1/models/NAME:predict  {"instances": ["text", {"text": "text"}]}
    POST /v2/models/NAME/infer    one BYTES input; outputs ``label``, ``probability``, and, where the
                                  request names it, ``probabilities`` of shape (texts, labels);
                                  of a multi-label model ``labels`` (JSON lists) and ``probabilities``
    POST /v2/repository/models/NAME/load    serve what the folder holds now; an optional body
                                  {"parameters": {"digest": "…"}} refuses every other model
    POST /v2/repository/models/NAME/unload
    GET  /v2/health/ready   GET /v1/models/NAME   GET /metrics

Answers hold label names and probabilities (https://kserve.github.io/website/docs/concepts/architecture/data-plane);
the header ``undercut-model-digest`` names the model that made them. A load holds two models in memory for
a moment. Who may ask for one, and how large a request may be: :mod:`undercut.serving.guard`.
"""

import json
import logging
import os
import socket
import struct
import time
import warnings
from typing import Any

from fastapi import Request
from fastapi.exceptions import FastAPIDeprecationWarning, RequestValidationError
from fastapi.responses import JSONResponse
from kserve import InferRequest
from kserve.errors import InferenceError, InvalidInput, ModelNotFound
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from starlette.exceptions import HTTPException

from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.serving.guard import TOKEN, SizeLimit, TokenGuard, is_local
from undercut.serving.metrics import RequestMetrics
from undercut.serving.repository import SwappingRepository, watch
from undercut.serving.settings import ServeConfig

APP = "kserve.model_server:app"
LOAD_PATH = "/v2/repository/models/{name}/load"


class TextDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's, for which a binary V2 body that cannot be read is the request's fault (400), not the server's (500)."""

    def decode_inference_request(self, body: object, headers: dict[str, str], model_name: str) -> InferRequest:
        """Return the request of a V2 body.

        Raises:
            InvalidInput: it is not one.
        """
        try:
            return super().decode_inference_request(body, headers, model_name)
        except InvalidInput:
            raise
        except (InferenceError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
            raise InvalidInput(f"the body cannot be read: {error}") from error


def serve(config: ServeConfig) -> None:
    """Serve a model folder until SIGINT or SIGTERM; prints one line when the server answers.

    After the signal no connection is accepted; requests in flight are answered within ``grace_seconds``.

    Args:
        config: settings.

    Raises:
        ConfigurationError: the folder cannot be served, or the address is taken.
    """
    repository = SwappingRepository(config)
    _quiet_logs()
    _extend(repository, config.name, config.host)
    extension = ModelRepositoryExtension(repository)
    server = RESTServer(APP, TextDataPlane(repository), extension, config.port, grace_period=config.grace_seconds)
    listener = _listen(config.host, config.port)
    if config.watch_seconds:
        watch(repository, config)
    print(_ready_line(config, listener.getsockname()[1]), flush=True)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        print("stopped", flush=True)


def _extend(repository: SwappingRepository, name: str, host: str) -> None:
    """Add what KServe's application lacks; its own route for a load comes later and is never reached."""

    async def load(request: Request) -> JSONResponse:
        wanted, started = await _wanted_digest(request), time.perf_counter()
        before = repository.served
        model = await repository.load(request.path_params["name"], wanted)
        answer = {"name": name, "load": True, "digest": model.digest, "candidate": model.candidate}
        replaced = before.digest if before else None
        return JSONResponse({**answer, "replaced": replaced, "seconds": round(time.perf_counter() - started, 4)})

    app.add_middleware(SizeLimit)
    app.add_middleware(RequestMetrics, name=name)
    token = os.environ.get(TOKEN, "").strip()
    if token or not is_local(host):
        app.add_middleware(TokenGuard, token=token)
    app.add_api_route(LOAD_PATH, load, methods=["POST"], response_model=None)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(ConfigurationError, _refused)
    app.add_exception_handler(HTTPException, _said)


async def _wanted_digest(request: Request) -> str | None:
    """Return ``parameters.digest`` of a load's body, which may be empty.

    Raises:
        InvalidInput: the body is something else.
    """
    body = await request.body()
    try:
        content: Any = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    parameters = content.get("parameters", {}) if isinstance(content, dict) else None
    digest = parameters.get("digest") if isinstance(parameters, dict) else 0
    if digest is not None and not isinstance(digest, str):
        raise InvalidInput('expected nothing, or {"parameters": {"digest": "…"}}')
    return digest


def _listen(host: str, port: int) -> socket.socket:
    """Open the port here, so that a taken one is a clear message and connections wait from now on."""
    try:
        return socket.create_server((host, port), backlog=128)
    except (OSError, OverflowError) as error:
        remedy = "Choose another with --port, or 0 for any"
        raise ConfigurationError("address", f"{host}:{port}", f"a free one ({error})", remedy) from error


def _ready_line(config: ServeConfig, port: int) -> str:
    manifest = artifacts.load(config.model, artifacts.MODEL)
    url = f"http://{'127.0.0.1' if config.host == '0.0.0.0' else config.host}:{port}"
    curl = f'curl {url}/v1/models/{config.name}:predict -d \'{{"instances": ["your text"]}}\''
    what = f"{manifest['structure']}/{manifest['precision']}, {len(manifest['labels'])} labels"
    return f"serving {config.name} ({what}) at {url}  try: {curl}"


def _quiet_logs() -> None:
    """Warnings only, and no traceback for a request at fault: its answer says what was wrong."""
    warnings.simplefilter("ignore", FastAPIDeprecationWarning)  # KServe's V1 answers, once each
    faults = (InvalidInput, ModelNotFound)
    for logger in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(lambda record: not isinstance((record.exc_info or (None, None))[1], faults))


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=400)


async def _said(_: Request, error: Exception) -> JSONResponse:
    """Answer in the protocol's form, ``{"error": …}``; FastAPI's own is ``{"detail": …}``."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Answer a malformed V2 body with 400 and one line (FastAPI's own answer is 422 and a nest of fields)."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = "" if first["type"] == "json_invalid" else ".".join(map(str, first["loc"][2:]))
    return JSONResponse({"error": f"{where or 'body'}: {first['msg']}"}, status_code=400)
