"""Rows as a drift test sees them: what a model answers, how surely, and what the text is made of; no text.

A sample is a handful of arrays, one row a text. Two samples of one model compare: one kept from when the
model was made (``reference.py``), one of today's rows.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.label_sets import is_multi_label, multi_hot, predicted
from undercut.linear import WORD, normalise
from undercut.predictors import FloatArray, Predictor

BATCH = 32
FEATURES = 256
CHARACTERS = 2000  # of a text that its features are counted in
# Thai, Japanese, Chinese: written without spaces. A word there is a pair of neighbouring characters.
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")

Flags = NDArray[np.uint8]
Progress = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows of a text source.

    Attributes:
        answers: the model's answers, zeros and ones of shape (rows, labels), in the order of the model's labels.
        confidence: shape (rows,): the answer's probability; where a row may have several labels, the mean over labels
            of the more probable of yes and no.
        unknown: shape (rows,): share of the text's words that no training row of the model has.
        features: shape (rows, 256): signed counts of character trigrams, hashed (Weinberger et al. 2009), of length 1.
        labels: the true labels like ``answers``, in the order of the dataset's labels; of no rows where there are none.
        correct: shape (rows,): whether the answer is the label; of no rows where there are no labels.
    """

    answers: Flags
    confidence: FloatArray
    unknown: FloatArray
    features: FloatArray
    labels: Flags
    correct: Flags

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return len(self.confidence)

    @property
    def labelled(self) -> bool:
        """Tell whether the rows have labels."""
        return len(self.correct) > 0

    def take(self, rows: NDArray[np.int64]) -> "Sample":
        """Return some of the rows, by number."""
        return Sample(**{name: value[rows] if len(value) else value for name, value in vars(self).items()})


def measure(
    predictor: Predictor,
    texts: Sequence[str],
    words: frozenset[int],
    truth: NDArray[np.int64],
    names: Sequence[str],
    progress: Progress | None = None,
) -> Sample:
    """Return the sample of some texts.

    Args:
        predictor: the model that answers them.
        texts: the texts, one or more.
        words: :func:`word_keys` of the model's training rows.
        truth: label indices (rows,), or zeros and ones (rows, labels); of length 0 where there are none.
        names: the dataset's label names, which ``truth`` means.
        progress: told the share of texts that the model has answered; None reports it as the step's.
    """
    probabilities = _probabilities(predictor, texts, progress or _report)
    answers = predicted(predictor, probabilities)
    several = is_multi_label(answers)
    sure = np.maximum(probabilities, 1 - probabilities).mean(axis=1) if several else probabilities.max(axis=1)
    chosen = _zeros_and_ones(answers, len(predictor.labels))
    labels = _zeros_and_ones(truth, len(names)) if len(truth) else np.zeros((0, len(names)), np.uint8)
    union = list(dict.fromkeys([*names, *predictor.labels]))
    equal = aligned(chosen, predictor.labels, union)[: len(labels)] == aligned(labels, names, union)
    return Sample(
        answers=chosen,
        confidence=np.asarray(sure, np.float32),
        unknown=np.array([_unknown(text, words) for text in texts], np.float32),
        features=features(texts),
        labels=labels,
        correct=equal.all(axis=1).astype(np.uint8),
    )


def aligned(matrix: Flags, names: Sequence[str], wanted: Sequence[str]) -> Flags:
    """Return the columns ``names`` of a matrix in the order of ``wanted``, which holds all of them; others are zero."""
    found = np.zeros((len(matrix), len(wanted)), np.uint8)
    found[:, [wanted.index(name) for name in names]] = matrix
    return found


def features(texts: Sequence[str]) -> FloatArray:
    """Return hashed character trigrams of texts as they are written, shape (texts, 256), rows of length 1."""
    found = np.zeros((len(texts), FEATURES), np.float32)
    for row, text in zip(found, texts, strict=True):
        padded = f" {text[:CHARACTERS]} "
        for start in range(len(padded) - 2):
            key = zlib.crc32(padded[start : start + 3].encode("utf-8", "surrogatepass"))
            row[key % FEATURES] += 1 if key >> 31 else -1
    lengths = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return np.asarray(found / lengths, np.float32)


def word_keys(text: str) -> set[int]:
    """Return the keys of a text's words, regardless of case and accents."""
    return {key(word) for word in _words(text)}


def key(text: str) -> int:
    """Return 64 bits of BLAKE2b of a text: enough to know it again, too little to read it."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def row_keys(batch: pa.RecordBatch, names: Sequence[str]) -> list[int]:
    """Return a key of each row of columns ``text`` and ``label``: of the text with the labels' names."""
    texts, labels = batch["text"].to_pylist(), batch["label"].to_pylist()
    rows = [sorted(names[i] for i in ([label] if isinstance(label, int) else label)) for label in labels]
    return [key(json.dumps([text, row])) for text, row in zip(texts, rows, strict=True)]


def _words(text: str) -> Iterator[str]:
    for word in WORD.findall(normalise(text)):
        if _UNSPACED.search(word):
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            yield word


def _unknown(text: str, known: frozenset[int]) -> float:
    words = [key(word) in known for word in _words(text)]
    return 1 - sum(words) / len(words) if words else 0.0


def _zeros_and_ones(labels: NDArray[np.int64], count: int) -> Flags:
    if is_multi_label(labels):
        return labels.astype(np.uint8)
    found = np.zeros((len(labels), count), np.uint8)
    found[np.arange(len(labels)), labels] = 1
    return found


def _report(share: float) -> None:
    events.progress(share, 1, "asking the model")


def _probabilities(predictor: Predictor, texts: Sequence[str], progress: Progress) -> FloatArray:
    """Return probabilities, shape (texts, labels), asked in batches of like length."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    found = np.zeros((len(texts), len(predictor.labels)), np.float32)
    for start in range(0, len(texts), BATCH):
        rows = order[start : start + BATCH]
        found[rows] = predictor.probabilities([texts[i] for i in rows])
        progress(start / len(texts))
    return found


def scan(data: Path, splits: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some splits batch by batch: a dataset may be larger than the memory."""
    for split in splits:
        for path in artifacts.split_files(data, split):
            yield from pq.ParquetFile(path).iter_batches(columns=list(columns))


def chosen_rows(
    data: Path, splits: Sequence[str], rows: NDArray[np.int64], labels: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Return texts and labels of some rows.

    Args:
        data: dataset folder.
        splits: whose rows are numbered from 0, in this order.
        rows: the numbers wanted, ascending.
        labels: how many labels the dataset has; 0 for splits without labels.

    Returns:
        The texts; label indices (rows,), or zeros and ones (rows, labels); of length 0 without labels.
    """
    found, start = [], 0
    for batch in scan(data, splits, ["text", "label"] if labels else ["text"]):
        here = rows[(rows >= start) & (rows < start + len(batch))] - start
        found.append(batch.take(pa.array(here)))
        start += len(batch)
    table: Any = pa.Table.from_batches(found)
    texts = table["text"].to_pylist()
    if not labels:
        return texts, np.zeros(0, np.int64)
    if pa.types.is_list(table["label"].type):
        return texts, multi_hot(table["label"], labels)
    return texts, table["label"].to_numpy().astype(np.int64)
