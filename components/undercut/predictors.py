"""From texts to label probabilities, whatever the model's format: PyTorch, ONNX Runtime, linear or static.

One function, :func:`load_predictor`, is what evaluation, profiling, deployment and serving call, so
that each of them sees a model exactly as the others do. PyTorch is imported only for its own format.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts
from undercut.errors import CandidateLost, ConfigurationError
from undercut.label_sets import TASK, MultiLabelPredictor
from undercut.out_of_scope import ThresholdPredictor

# What a model folder holds of its tokenizer; only the first is always there.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


class Predictor(Protocol):
    """A loaded model: texts in, probabilities out."""

    labels: tuple[str, ...]

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities, shape (texts, labels), all texts in one batch; a row sums to 1 unless multi-label."""
        ...


def load_predictor(
    folder: Path, threads: int = 1, expected_digest: str | None = None, thresholded: bool = True
) -> Predictor:
    """Verify a model folder and load it.

    Args:
        folder: a sealed model folder.
        threads: threads of one prediction.
        expected_digest: the digest recorded elsewhere, for example in a registry.
        thresholded: answer unsure texts with the out-of-scope label where the model has one; False gives the
            model's own probabilities, to learn from.

    Raises:
        ConfigurationError: the folder was tampered with, or its format is unknown.
        CandidateLost: the folder holds a lost candidate and no weights.
    """
    manifest = artifacts.verify(folder, artifacts.MODEL, expected_digest)
    if manifest.get("lost"):
        raise CandidateLost(manifest["lost"])
    predictor = _load(folder, manifest, threads)
    if manifest["task"] == TASK:
        return MultiLabelPredictor(predictor, manifest["threshold"])
    if thresholded and manifest.get("out_of_scope"):
        return ThresholdPredictor(predictor, manifest["out_of_scope"])
    return predictor


def _load(folder: Path, manifest: artifacts.Manifest, threads: int) -> Predictor:
    match manifest["format"]:
        case "linear":
            from undercut.linear import LinearModel

            return LinearModel.load(folder, tuple(manifest["labels"]))
        case "static":
            from undercut.static import StaticModel

            return StaticModel.load(folder, tuple(manifest["labels"]), manifest["max_length"])
        case "onnx":
            return OnnxPredictor(folder, manifest, threads)
        case "torch":
            return TorchPredictor(folder, manifest, threads)
        case "adapter":
            from undercut.adapters import base_folder, load_adapter

            return TorchPredictor(base_folder(manifest), manifest, threads, load_adapter(folder, manifest))
        case other:
            raise ConfigurationError("model.format", other, "torch, adapter, onnx, linear or static")


class BatchTokenizer:
    """Token ids for a batch, padded to its longest text.

    The ``tokenizers`` library alone: it is what ``transformers`` calls underneath, and the serve
    image does without the latter.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, special tokens included, cut at ``max_length``."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def padded(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Return ids and attention mask, both of shape (texts, longest)."""
        return pad(self.ids(texts))


def pad(ids: Sequence[Sequence[int]], padding: int = 0) -> tuple[IntArray, IntArray]:
    """Return ids padded on the right to the longest row, and the mask of real tokens."""
    longest = max(len(row) for row in ids)
    padded = np.full((len(ids), longest), padding, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return padded, mask


def softmax(logits: NDArray[Any]) -> FloatArray:
    """Return the softmax over the last axis in float32."""
    shifted = np.exp(logits.astype(np.float32) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


class OnnxPredictor:
    """``model.onnx`` in ONNX Runtime on the CPU."""

    def __init__(self, folder: Path, manifest: artifacts.Manifest, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        level = manifest["parameters"].get("graph_optimization", "all")
        options.graph_optimization_level = {
            "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
            "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        }[level]
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = BatchTokenizer(folder, manifest["max_length"])
        self.labels = tuple(manifest["labels"])

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return scores, shape (texts, labels)."""
        ids, mask = self._tokenizer.padded(texts)
        (logits,) = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, dtype=np.float32)

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities, shape (texts, labels)."""
        return softmax(self.logits(texts))


class TorchPredictor:
    """The fine-tuned model as ``save_pretrained`` wrote it, or an adapter on its base, in fp32 on the CPU."""

    def __init__(self, folder: Path, manifest: artifacts.Manifest, threads: int, adapted: Any = None) -> None:
        import torch

        from undercut.encoders import load_model

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = adapted or load_model(folder, manifest)
        self._tokenizer = BatchTokenizer(folder, manifest["max_length"])
        self.labels = tuple(manifest["labels"])

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return scores, shape (texts, labels)."""
        ids, mask = (self._torch.from_numpy(a) for a in self._tokenizer.padded(texts))
        with self._torch.inference_mode():
            logits: FloatArray = self._model(input_ids=ids, attention_mask=mask).logits.numpy()
        return logits

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities, shape (texts, labels)."""
        return softmax(self.logits(texts))
