"""The texts of a request, in KServe's V1 or V2 form, or a refusal that names the field at fault."""

import json
import math
from collections.abc import Mapping

from kserve import InferRequest
from kserve.errors import InvalidInput

MAX_TEXTS = 4096


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
