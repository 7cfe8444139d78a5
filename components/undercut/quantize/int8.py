"""Three ways to int8: dynamic, static with calibration, and mixed, where what int8 harms stays in fp32.

All three quantize weights with one scale for each output channel. ``int8`` finds the scale of activations
at run time, for each request; ``int8-static`` fixes it beforehand from training rows and writes
quantize/dequantize pairs (QDQ), which ONNX Runtime turns into integer products; ``int8-mixed`` is ``int8``
without the few products that hurt most, found by quantizing one at a time and measuring the answers
(sensitivity analysis, as in Nagel et al. 2021, "A white paper on neural network quantization", section 4.1).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from undercut import events
from undercut.label_sets import decided, same, sigmoid
from undercut.predictors import FloatArray, IntArray, pad, softmax

PRODUCTS = ("MatMul", "Gemm")
CALIBRATION_BATCH = 16

Answer = Callable[[Path], FloatArray]


def quantize_int8(source: Path, target: Path, in_fp32: Sequence[str] = ()) -> None:
    """Quantize an ONNX file's weights to int8, all but those of the nodes ``in_fp32``.

    ``source`` must have been through :func:`prepare`.
    """
    quantize_dynamic(
        str(source), str(target), weight_type=QuantType.QInt8, per_channel=True, nodes_to_exclude=list(in_fp32)
    )


def prepare(path: Path) -> Path:
    """Write the graph with shapes inferred and constants folded beside ``path``; returns where."""
    logging.getLogger().setLevel(logging.ERROR)
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    return prepared


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Batches of ids and masks, one at a time."""

    def __init__(self, batches: Iterator[tuple[IntArray, IntArray]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, IntArray] | None:
        found = next(self._batches, None)
        return None if found is None else {"input_ids": found[0], "attention_mask": found[1]}


def calibration_batches(ids: Sequence[Sequence[int]], rows: int) -> list[tuple[IntArray, IntArray]]:
    """Return batches of real tokens only, all of one shape.

    Histograms want tensors of one shape, and padding would distort them: so the texts with at least the
    median number of tokens are taken, up to ``rows`` of them, and cut there (their last token is kept).
    """
    length = int(np.median([len(row) for row in ids]))
    chosen = [[*row[: length - 1], row[-1]] for row in ids if len(row) >= length][:rows]
    whole = max(1, len(chosen) // CALIBRATION_BATCH) * CALIBRATION_BATCH
    return [pad(chosen[i : i + CALIBRATION_BATCH]) for i in range(0, min(whole, len(chosen)), CALIBRATION_BATCH)]


def quantize_int8_static(
    source: Path, target: Path, batches: Sequence[tuple[IntArray, IntArray]], method: str = "percentile"
) -> None:
    """Quantize the products with constant weights, with fixed scales for their inputs.

    Args:
        source: a prepared ONNX file.
        target: where the quantized one goes.
        batches: ids and masks to calibrate on, all of one shape.
        method: how a range is chosen from the values seen: minmax, percentile or entropy.
    """
    quantize_static(
        str(source),
        str(target),
        _Calibration(iter(batches)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(PRODUCTS),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=weighted_products(source),
        calibrate_method={
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
            "entropy": CalibrationMethod.Entropy,
        }[method],
        extra_options={"MatMulConstBOnly": True, "CalibPercentile": 99.99},
    )


def weighted_products(path: Path) -> list[str]:
    """Return the names of the products whose second factor is a constant: the layers' weights."""
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in PRODUCTS and node.input[1] in constants]


def embeddings(path: Path) -> list[str]:
    """Return the names of the look-ups in constant tables that int8 would quantize."""
    graph = onnx.load(path).graph
    tables = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return [node.name for node in graph.node if node.op_type == "Gather" and node.input[0] in tables]


def quantize_int8_mixed(
    source: Path, target: Path, answer: Answer, agreement: float, threshold: float | None = None
) -> dict[str, Any]:
    """Quantize to int8 and leave in fp32 the fewest nodes with which the answers stay the source's.

    Nodes are ordered by how far the answers move (Kullback-Leibler divergence from the source) when they
    alone are quantized; how many of the worst stay in fp32 is found by bisection.

    Args:
        source: a prepared ONNX file in fp32.
        target: where the quantized one goes.
        answer: from an ONNX file to logits on the rows to compare on, shape (rows, labels).
        agreement: least share of rows with the source's label, or labels.
        threshold: probability from which a label is an answer, of a multi-label model; None for one label a row.

    Returns:
        ``in_fp32``: names of the nodes left, worst first; ``sensitivity``: their divergences.
    """
    wanted = answer(source)
    nodes = weighted_products(source) + embeddings(source)
    moved = {}
    for done, node in enumerate(nodes):
        quantize_int8(source, target, [other for other in nodes if other != node])
        moved[node] = divergence(wanted, answer(target), threshold is not None)
        events.progress(done + 1, len(nodes), "quantizing one product at a time")
    worst = sorted(nodes, key=lambda node: -moved[node])

    def answers(logits: FloatArray) -> IntArray:
        return decided(logits if threshold is None else sigmoid(logits), threshold)

    def agrees(count: int) -> bool:
        quantize_int8(source, target, worst[:count])
        return float(same(answers(answer(target)), answers(wanted)).mean()) >= agreement

    low, high = 0, len(nodes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if agrees(middle) else (middle + 1, high)
    quantize_int8(source, target, worst[:low])
    events.message(f"{low} of {len(nodes)} products and look-ups stay in fp32")
    return {"in_fp32": worst[:low], "sensitivity": [round(moved[node], 6) for node in worst[:low]]}


def divergence(wanted: FloatArray, found: FloatArray, multi_label: bool = False) -> float:
    """Return the mean Kullback-Leibler divergence of rows of logits from those wanted.

    Of one distribution a row, or, ``multi_label``, of one a label, summed over the row's.
    """
    if multi_label:
        yes, no = (np.stack([sigmoid(sign * rows) + 1e-12 for rows in (wanted, found)]) for sign in (1, -1))
        return float((yes[0] * np.log(yes[0] / yes[1]) + no[0] * np.log(no[0] / no[1])).sum(axis=1).mean())
    p, q = softmax(wanted) + 1e-12, softmax(found) + 1e-12
    return float((p * np.log(p / q)).sum(axis=1).mean())


def onnx_logits(path: Path, batches: Sequence[tuple[IntArray, IntArray]], threads: int = 2) -> FloatArray:
    """Return an ONNX file's logits on batches of ids and masks, shape (rows, labels)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = [session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0] for ids, mask in batches]
    return np.concatenate(found)
