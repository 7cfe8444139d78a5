"""A classifier over static token vectors: the scorer and its files. Needs numpy and a tokenizer, no PyTorch.

A text is the weighted mean of the vectors of its tokens and of those pairs of neighbouring tokens that
the model knows; a small network turns the mean into scores. There is no attention: a text costs one
look-up a token and two small matrix products, whatever the size of the model that taught it. After
fastText (Joulin et al. 2017) and model2vec (Tulkens & van Dongen 2024), whose vectors are here trained on.

``weights.safetensors`` holds ``vectors`` (tokens + pairs, size), float16; ``weights`` (tokens + pairs,);
``pairs`` (pairs,), int64, sorted: first token * tokens + second token; ``hidden`` (size, width) and
``hidden_bias``; ``head`` (width, labels) and ``bias``.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from undercut.predictors import BatchTokenizer, FloatArray, IntArray, softmax

Tensors = Mapping[str, NDArray[Any]]


class TokenPairs:
    """Known pairs of neighbouring tokens, each with a row after the tokens' own."""

    def __init__(self, pairs: IntArray, tokens: int) -> None:
        self.pairs, self.tokens = np.asarray(pairs, dtype=np.int64), tokens

    def rows(self, ids: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
        """Return the rows of all texts' tokens and known pairs, text by text, and where each text starts.

        Args:
            ids: token ids of each text, at least one each.
        """
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        tokens = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
        texts = np.repeat(np.arange(len(ids)), lengths)
        keys = tokens[:-1] * self.tokens + tokens[1:]
        places = np.searchsorted(self.pairs, keys)
        known = texts[:-1] == texts[1:]
        known &= self.pairs.take(places, mode="clip") == keys if len(self.pairs) else False
        rows = np.concatenate([tokens, self.tokens + places[known]])
        if len(ids) == 1:
            return rows, np.zeros(1, dtype=np.int64)
        order = np.argsort(np.concatenate([texts, texts[:-1][known]]), kind="stable")
        counts = lengths + np.bincount(texts[:-1][known], minlength=len(ids))
        return rows[order], np.cumsum(counts) - counts


class StaticModel:
    """Vectors, weights and a small network; a :class:`undercut.predictors.Predictor`."""

    def __init__(self, tokenizer: BatchTokenizer, tensors: Tensors, labels: tuple[str, ...]) -> None:
        self._tokenizer, self.labels = tokenizer, labels
        self.tensors: dict[str, NDArray[Any]] = {
            name: np.asarray(t, np.int64 if name == "pairs" else np.float32) for name, t in tensors.items()
        }
        rows = len(self.tensors["vectors"])
        self._pairs = TokenPairs(self.tensors["pairs"], rows - len(self.tensors["pairs"]))
        # The weights are folded into the vectors, and stand beside them as one more column to sum.
        weights = self.tensors["weights"][:, None]
        self._summed = np.hstack([self.tensors["vectors"] * weights, weights]).astype(np.float32)

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return scores, shape (texts, labels)."""
        # A text without tokens (possible where a tokenizer adds no special ones) is its first token id.
        rows, starts = self._pairs.rows([ids or [0] for ids in self._tokenizer.ids(texts)])
        sums = np.add.reduceat(self._summed[rows], starts, axis=0)
        means = sums[:, :-1] / sums[:, -1:]
        hidden = np.maximum(means @ self.tensors["hidden"] + self.tensors["hidden_bias"], 0)
        return np.asarray(hidden @ self.tensors["head"] + self.tensors["bias"], dtype=np.float32)

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities, shape (texts, labels)."""
        return softmax(self.logits(texts))

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors``; the tokenizer's file is the caller's to copy."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = self.tensors | {"vectors": self.tensors["vectors"].astype(np.float16)}
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...], max_length: int) -> "StaticModel":
        """Read what :meth:`save` wrote, and the tokenizer beside it."""
        return cls(BatchTokenizer(folder, max_length), load_file(folder / "weights.safetensors"), labels)
