"""A linear classifier over word and character n-grams: the scorer, its features, its two files.

Scoring needs numpy alone: the features are counted in plain Python with one dictionary look-up an
n-gram, and the rows of the weight matrix that occur are summed. Nothing is unpickled:
``weights.safetensors`` holds ``weights`` (n-grams, labels) and ``bias`` (labels,), both float32;
``vocabulary.json`` the n-grams in row order, each with its inverse document frequency.

Features of a text, lower-cased and stripped of accents: words' 1-2-grams, and 2-5-grams of the
characters of each word between spaces; within each of the two kinds 1 + log(count), times inverse
document frequency, scaled to length 1 (Salton & Buckley 1988), as scikit-learn's ``TfidfVectorizer``
computes them.
"""

import itertools
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from undercut import artifacts
from undercut.predictors import FloatArray, softmax

WORD = re.compile(r"\w+|[^\w\s]")
WORD_ORDERS = (1, 2)
CHARACTER_ORDERS = (2, 3, 4, 5)
KINDS = ("word", "character")


def normalise(text: str) -> str:
    """Return the text in lower case without accents."""
    text = text.lower()
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def word_ngrams(text: str) -> Iterator[str]:
    """Yield a normalised text's words and pairs of neighbouring words."""
    words = WORD.findall(text)
    yield from words
    yield from (f"{a} {b}" for a, b in itertools.pairwise(words))


def character_ngrams(text: str) -> Iterator[str]:
    """Yield the 2-5-grams of each word's characters, the word standing between two spaces."""
    for word in text.split():
        padded = f" {word} "
        length = len(padded)
        for order in CHARACTER_ORDERS:
            if order >= length:
                yield padded
                break
            for start in range(length - order + 1):
                yield padded[start : start + order]


NGRAMS = {"word": word_ngrams, "character": character_ngrams}


class Vocabulary:
    """N-grams to rows and inverse document frequencies, for each of the two kinds."""

    def __init__(self, ngrams: Mapping[str, Sequence[str]], frequencies: Mapping[str, NDArray[np.float32]]) -> None:
        self.ngrams = {kind: list(ngrams[kind]) for kind in KINDS}
        self.frequencies = {kind: np.asarray(frequencies[kind], dtype=np.float32) for kind in KINDS}
        offset = len(self.ngrams["word"])
        self._rows = {
            "word": {g: i for i, g in enumerate(self.ngrams["word"])},
            "character": {g: i + offset for i, g in enumerate(self.ngrams["character"])},
        }
        self._weights = np.concatenate([self.frequencies[kind] for kind in KINDS]).tolist()

    @property
    def size(self) -> int:
        """Return the number of n-grams of both kinds."""
        return len(self._weights)

    @classmethod
    def fit(cls, texts: Sequence[str], minimum_documents: int = 2) -> "Vocabulary":
        """Collect the n-grams of ``texts``; characters' must occur in ``minimum_documents`` of them."""
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for text in texts:
            plain = normalise(text)
            for kind in KINDS:
                counts[kind].update(set(NGRAMS[kind](plain)))
        least = {"word": 1, "character": minimum_documents}
        ngrams = {kind: sorted(g for g, n in counts[kind].items() if n >= least[kind]) for kind in KINDS}
        frequencies = {
            kind: np.array([math.log((1 + len(texts)) / (1 + counts[kind][g])) + 1 for g in ngrams[kind]], np.float32)
            for kind in KINDS
        }
        return cls(ngrams, frequencies)

    def features(self, text: str) -> tuple[list[int], list[float]]:
        """Return the rows and values of a text's features."""
        plain = normalise(text)
        rows: list[int] = []
        values: list[float] = []
        for kind in KINDS:
            known = self._rows[kind]
            found = Counter([known[g] for g in NGRAMS[kind](plain) if g in known])
            if not found:
                continue
            weights = self._weights
            scaled = [
                weights[row] if count == 1 else (1 + math.log(count)) * weights[row] for row, count in found.items()
            ]
            norm = math.sqrt(sum(v * v for v in scaled))
            rows += found
            values += [v / norm for v in scaled]
        return rows, values


class LinearModel:
    """Weights over a vocabulary's n-grams; a :class:`undercut.predictors.Predictor`."""

    def __init__(self, vocabulary: Vocabulary, weights: FloatArray, bias: FloatArray, labels: tuple[str, ...]) -> None:
        self.vocabulary, self.labels = vocabulary, labels
        self.weights = np.ascontiguousarray(weights, dtype=np.float32)
        self.bias = np.asarray(bias, dtype=np.float32)

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return scores, shape (texts, labels)."""
        scores = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for i, text in enumerate(texts):
            rows, values = self.vocabulary.features(text)
            scores[i] = np.asarray(values, dtype=np.float32) @ self.weights[rows] if rows else 0.0
        return scores + self.bias

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return probabilities, shape (texts, labels)."""
        return softmax(self.logits(texts))

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``vocabulary.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weights": self.weights, "bias": self.bias}, folder / "weights.safetensors")
        content = {
            kind: {
                "ngrams": self.vocabulary.ngrams[kind],
                "inverse_document_frequencies": [round(float(v), 6) for v in self.vocabulary.frequencies[kind]],
            }
            for kind in KINDS
        }
        artifacts.write_json(folder / "vocabulary.json", content)

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...]) -> "LinearModel":
        """Read what :meth:`save` wrote."""
        content = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        vocabulary = Vocabulary(
            {kind: content[kind]["ngrams"] for kind in KINDS},
            {kind: np.array(content[kind]["inverse_document_frequencies"], np.float32) for kind in KINDS},
        )
        tensors = load_file(folder / "weights.safetensors")
        return cls(vocabulary, tensors["weights"], tensors["bias"], labels)
