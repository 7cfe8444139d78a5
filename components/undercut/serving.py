"""Serve a model folder over HTTP with KServe's Python server: V1 and V2 REST, health, metrics.

    python -m undercut.serving --model FOLDER --name NAME --port 8080 --threads 1

    POST /v1/models/NAME:predict  {"instances": ["text", {"text": "text"}]}
    POST /v2/models/NAME/infer    one BYTES input; outputs ``label``, ``probability``, and, where the
                                  request names it, ``probabilities`` of shape (texts, labels);
                                  of a multi-label model ``labels`` (JSON lists) and ``probabilities``
    GET  /v2/health/ready   GET /v1/models/NAME   GET /metrics

Answers hold label names and probabilities (https://kserve.github.io/website/docs/concepts/architecture/data-plane).
"""

import argparse
import asyncio
import json
import logging
import math
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from fastapi import Request
from fastapi.exceptions import FastAPIDeprecationWarning, RequestValidationError
from fastapi.responses import JSONResponse
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput, ModelNotFound
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from numpy.typing import NDArray

from undercut import answers, artifacts, steps
from undercut.errors import CandidateLost, ConfigurationError
from undercut.predictors import Predictor, load_predictor

BATCH = 32
MAX_TEXTS = 4096
APP = "kserve.model_server:app"


class TextClassifier(Model):  # type: ignore[misc]
    """A predictor behind KServe's protocols.

    Predictions run one at a time in one thread of their own, so that the model keeps to its
    ``threads`` and health checks answer while it works.
    """

    def __init__(self, name: str, predictor: Predictor) -> None:
        super().__init__(name)
        self.predictor = predictor
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self.ready = True

    async def predict(self, payload: object, _headers: object = None) -> dict[str, Any] | InferResponse:
        """Answer one V1 body or V2 request.

        Raises:
            InvalidInput: the request is not one of texts (HTTP 400).
        """
        texts = texts_of(payload)
        probabilities = await self._probabilities(texts)
        if isinstance(payload, InferRequest):
            return self._v2(payload, probabilities)
        return {"predictions": answers.bodies(self.predictor, probabilities)}

    async def _probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        run = asyncio.get_running_loop().run_in_executor
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        return np.concatenate([await run(self._worker, self.predictor.probabilities, batch) for batch in batches])

    def _v2(self, request: InferRequest, probabilities: NDArray[np.float32]) -> InferResponse:
        types = answers.output_types(self.predictor)
        wanted = [output.name for output in request.request_outputs or []] or list(types)[:2]
        unknown = [name for name in wanted if name not in types]
        if unknown:
            raise InvalidInput(f"outputs: got '{unknown[0]}'; allowed: {', '.join(types)}")
        values = answers.tensors(self.predictor, probabilities)
        return InferResponse(
            response_id=request.id or str(uuid4()),
            model_name=self.name,
            infer_outputs=[_output(name, types[name], values[name], request.use_binary_outputs) for name in wanted],
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the input for V2's model metadata."""
        return [{"name": "text", "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs for V2's model metadata."""
        types, wide = answers.output_types(self.predictor), {"probabilities": [-1, len(self.predictor.labels)]}
        return [{"name": name, "datatype": form, "shape": wide.get(name, [-1])} for name, form in types.items()]


def _output(name: str, datatype: str, values: NDArray[Any], binary: bool) -> InferOutput:
    output = InferOutput(name=name, shape=list(values.shape), datatype=datatype)
    output.set_data_from_numpy(values, binary_data=binary)
    return output


def texts_of(payload: object) -> list[str]:
    """Return the texts of a V1 body (decoded, or raw JSON) or of a V2 request.

    Raises:
        InvalidInput: with the field at fault and what is allowed.
    """
    texts = _v2_texts(payload) if isinstance(payload, InferRequest) else _v1_texts(payload)
    if not 0 < len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"got {len(texts)} texts; allowed: 1 to {MAX_TEXTS} in one request")
    return texts


def _v1_texts(payload: object) -> list[str]:
    if isinstance(payload, bytes):  # sent without "Content-Type: application/json", as plain `curl -d` does
        try:
            payload = json.loads(payload)
        except ValueError as error:
            raise InvalidInput(f"the body is not JSON: {error}") from error
    instances = payload.get("instances") if isinstance(payload, Mapping) else None
    if not isinstance(instances, list):
        raise InvalidInput('expected {"instances": ["text", …]}')
    return [_text(f"instances[{i}]", x.get("text") if isinstance(x, Mapping) else x) for i, x in enumerate(instances)]


def _v2_texts(request: InferRequest) -> list[str]:
    if len(request.inputs) != 1 or request.inputs[0].datatype != "BYTES":
        got = ", ".join(f"{item.name} {item.datatype}" for item in request.inputs) or "none"
        raise InvalidInput(f"inputs: got {got}; allowed: one input of datatype BYTES")
    (tensor,) = request.inputs
    flat = [text for row in tensor.data or [] for text in (row if isinstance(row, list) else [row])]
    if len(flat) != math.prod(tensor.shape):
        raise InvalidInput(f"inputs[0].data: got {len(flat)} texts; its shape says {math.prod(tensor.shape)}")
    return [_text(f"inputs[0].data[{i}]", text) for i, text in enumerate(flat)]


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f'{field}: got {type(value).__name__}; allowed: a text, or {{"text": a text}}')
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON's \u escapes can spell
        raise InvalidInput(f"{field}: not valid Unicode ({error.reason})") from error
    return value


def serve(
    folder: Path, name: str, port: int = 8080, host: str = "127.0.0.1", threads: int = 1, digest: str | None = None
) -> None:
    """Serve a model folder until SIGINT or SIGTERM; prints one line when the server answers.

    Args:
        folder: a sealed model folder.
        name: the model's name in the endpoints' paths.
        port: 0 takes a free one (the line printed names it).
        host: ``0.0.0.0`` in a container.
        threads: threads of one prediction.
        digest: the folder's digest as recorded elsewhere.

    Raises:
        ConfigurationError: the folder was tampered with, the candidate is a lost one, or the address is taken.
    """
    try:
        predictor = load_predictor(folder, threads, digest)
    except CandidateLost as lost:
        raise ConfigurationError("model", str(folder), "a model that was not lost", str(lost)) from lost
    predictor.probabilities(["warm-up"])
    _quiet_logs()
    repository = ModelRepository()
    repository.update(TextClassifier(name, predictor))
    app.add_exception_handler(RequestValidationError, _malformed)
    server = RESTServer(APP, DataPlane(repository), ModelRepositoryExtension(repository), port, grace_period=5)
    listener = _listen(host, port)
    print(_ready_line(folder, name, host, listener.getsockname()[1]), flush=True)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        print("stopped", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    """Open the port here, so that a taken one is a clear message and connections wait from now on."""
    try:
        return socket.create_server((host, port), backlog=128)
    except (OSError, OverflowError) as error:
        remedy = "Choose another with --port, or 0 for any"
        raise ConfigurationError("address", f"{host}:{port}", f"a free one ({error})", remedy) from error


def _ready_line(folder: Path, name: str, host: str, port: int) -> str:
    manifest = artifacts.load(folder, artifacts.MODEL)
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    curl = f'curl {url}/v1/models/{name}:predict -d \'{{"instances": ["your text"]}}\''
    what = f"{manifest['structure']}/{manifest['precision']}, {len(manifest['labels'])} labels"
    return f"serving {name} ({what}) at {url}  try: {curl}"


def _quiet_logs() -> None:
    """Warnings only, and no traceback for a request at fault: its answer says what was wrong."""
    warnings.simplefilter("ignore", FastAPIDeprecationWarning)  # KServe's V1 answers, once each
    faults = (InvalidInput, ModelNotFound)
    for logger in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(lambda record: not isinstance((record.exc_info or (None, None))[1], faults))


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Answer a malformed V2 body with 400 and one line (FastAPI's own answer is 422 and a nest of fields)."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = "" if first["type"] == "json_invalid" else ".".join(map(str, first["loc"][2:]))
    return JSONResponse({"error": f"{where or 'body'}: {first['msg']}"}, status_code=400)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="undercut.serving", description="Serve a model folder (KServe V1 and V2).")
    option = parser.add_argument
    option("--model", type=Path, required=True, help="model folder (with model.json)")
    option("--name", default="model", help="model name in the endpoints' paths")
    option("--host", default="127.0.0.1", help="address to listen on (0.0.0.0 in a container)")
    option("--port", type=int, default=8080, help="0: any free one")
    option("--threads", type=int, default=1, help="threads of one prediction")
    option("--digest", help="refuse the folder unless its digest is this one")
    chosen = parser.parse_args(arguments)
    steps.watch_parent()
    try:
        serve(chosen.model, chosen.name, chosen.port, chosen.host, chosen.threads, chosen.digest)
    except ConfigurationError as error:
        print(f"serve: {error}", file=sys.stderr)
        return steps.EXIT_CONFIGURATION
    return 0


if __name__ == "__main__":
    sys.exit(main())
