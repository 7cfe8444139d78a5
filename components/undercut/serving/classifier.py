"""The model behind KServe's V1 and V2 protocols; which model that is can change between two requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from numpy.typing import NDArray

from undercut import answers
from undercut.predictors import FloatArray
from undercut.serving import metrics
from undercut.serving.loading import ServedModel
from undercut.serving.texts import texts_of

BATCH = 32
SECONDS_AN_HOUR = 3600


class TextClassifier(Model):  # type: ignore[misc]
    """A served model behind KServe's protocols.

    Predictions run one at a time in one thread of their own, so that the model keeps to its ``threads``
    and health checks answer while it works.

    Args:
        name: the model's name in the endpoints' paths.
        model: what answers; assign another to swap. A request reads the attribute once, so that all of its
            batches go through one model, and the old one is freed with the last request that holds it.
        usd_per_hour: price of the device; 0 exports none.
    """

    def __init__(self, name: str, model: ServedModel, usd_per_hour: float = 0.0) -> None:
        super().__init__(name, return_response_headers=True)
        self.model = model
        self._usd_per_second = usd_per_hour / SECONDS_AN_HOUR
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self.ready = True

    async def predict(
        self, payload: object, _headers: object = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one V1 body or V2 request.

        Raises:
            InvalidInput: the request is not one of texts (HTTP 400).
        """
        model = self.model
        texts = texts_of(payload)
        probabilities = await self._probabilities(model, texts)
        if response_headers is not None:
            response_headers[answers.DIGEST_HEADER] = model.digest
        if isinstance(payload, InferRequest):
            return self._v2(payload, model, probabilities)
        return {"predictions": answers.bodies(model.predictor, probabilities)}

    async def _probabilities(self, model: ServedModel, texts: Sequence[str]) -> FloatArray:
        run = asyncio.get_running_loop().run_in_executor
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        return np.concatenate([await run(self._worker, self._predict, model, batch) for batch in batches])

    def _predict(self, model: ServedModel, batch: Sequence[str]) -> FloatArray:
        started = time.perf_counter()
        probabilities = model.predictor.probabilities(batch)
        seconds = time.perf_counter() - started
        metrics.BATCH_SIZE.labels(self.name).observe(len(batch))
        metrics.PREDICT_SECONDS.labels(self.name).inc(seconds)
        if self._usd_per_second:
            metrics.PRICE.labels(self.name).inc(seconds * self._usd_per_second)
        if model.tokenizer:
            metrics.TOKENS.labels(self.name).inc(sum(map(len, model.tokenizer.ids(batch))))
        return probabilities

    def _v2(self, request: InferRequest, model: ServedModel, probabilities: FloatArray) -> InferResponse:
        types = answers.output_types(model.predictor)
        wanted = [output.name for output in request.request_outputs or []] or list(types)[:2]
        unknown = [name for name in wanted if name not in types]
        if unknown:
            raise InvalidInput(f"outputs: got '{unknown[0]}'; allowed: {', '.join(types)}")
        values = answers.tensors(model.predictor, probabilities)
        return InferResponse(
            response_id=request.id or str(uuid4()),
            model_name=self.name,
            infer_outputs=[_output(name, types[name], values[name], request.use_binary_outputs) for name in wanted],
            parameters={"model_digest": model.digest},
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the input for V2's model metadata."""
        return [{"name": "text", "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs for V2's model metadata."""
        predictor = self.model.predictor
        types, wide = answers.output_types(predictor), {"probabilities": [-1, len(predictor.labels)]}
        return [{"name": name, "datatype": form, "shape": wide.get(name, [-1])} for name, form in types.items()]


def _output(name: str, datatype: str, values: NDArray[Any], binary: bool) -> InferOutput:
    output = InferOutput(name=name, shape=list(values.shape), datatype=datatype)
    output.set_data_from_numpy(values, binary_data=binary)
    return output
