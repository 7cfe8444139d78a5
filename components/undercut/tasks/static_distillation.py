"""Static vectors learn a teacher's probabilities: the trainable form of :class:`undercut.static.StaticModel`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from undercut.batching import length_batches
from undercut.optimization import Precision
from undercut.predictors import FloatArray
from undercut.tasks.distillation import agreeing, answer_loss
from undercut.tasks.protocol import EVERY, Batch, Encoded


class StaticEncoder(torch.nn.Module):
    """Weighted mean of vectors, one hidden layer, scores.

    Args:
        vectors: initial vectors, shape (rows, size).
        weights: initial weights, positive, shape (rows,); trained as logarithms.
        width: of the hidden layer.
        labels: how many.
        dropout: of the hidden layer.
    """

    def __init__(self, vectors: FloatArray, weights: FloatArray, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.vectors = torch.nn.Parameter(torch.from_numpy(vectors.copy()))
        self.logarithms = torch.nn.Parameter(torch.from_numpy(np.log(weights)))
        self.hidden = torch.nn.Linear(vectors.shape[1], width)
        self.head = torch.nn.Linear(width, labels)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor, texts: torch.Tensor, count: int) -> torch.Tensor:
        """Return scores, shape (count, labels), of ``rows`` that belong to ``texts``, both of shape (tokens,)."""
        weights = self.logarithms[rows].exp()
        weighted = self.vectors[rows] * weights[:, None]
        sums = weighted.new_zeros(count, weighted.shape[1]).index_add(0, texts, weighted)
        totals = weights.new_zeros(count).index_add(0, texts, weights)
        hidden = functional.relu(self.hidden(sums / totals[:, None]))
        scores: torch.Tensor = self.head(self.dropout(hidden))
        return scores


@dataclass(frozen=True, kw_only=True)
class TaughtRows(Encoded):
    """Rows of vectors for each text, with the teacher's ``logits`` (texts, labels)."""

    logits: FloatArray


class StaticDistillation:
    """The teacher's probabilities and the labels, as :class:`undercut.tasks.distillation.Distillation` without states.

    Args:
        rows: from texts to each text's rows of vectors, one at least.
        label_weight: share of the labels against the teacher's probabilities, where a row has a label.
        temperature: divides both sides' logits.
    """

    def __init__(
        self, rows: Callable[[Sequence[str]], list[list[int]]], label_weight: float, temperature: float
    ) -> None:
        self._rows, self._label_weight, self._temperature = rows, label_weight, temperature

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Look up each text's rows; a label of -100 stands for none."""
        ids = self._rows(texts)
        return Encoded(ids=ids, lengths=np.array([len(row) for row in ids], dtype=np.int64), labels=labels)

    def taught(self, texts: Sequence[str], labels: NDArray[np.int64], logits: FloatArray) -> TaughtRows:
        """Look up each text's rows and put the teacher's logits beside them."""
        return TaughtRows(**vars(self.encode(texts, labels)), logits=logits)

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return ``rows`` and ``texts`` (tokens,), ``labels`` (texts,) and ``logits`` (texts, labels)."""
        indices = indices[share]
        assert isinstance(encoded, TaughtRows), type(encoded)
        chosen = [encoded.ids[i] for i in indices]
        texts = np.repeat(np.arange(len(chosen)), encoded.lengths[indices])
        return {
            "rows": torch.from_numpy(np.fromiter(chain.from_iterable(chosen), dtype=np.int64, count=len(texts))),
            "texts": torch.from_numpy(texts),
            "labels": torch.from_numpy(encoded.labels[indices]),
            "logits": torch.from_numpy(encoded.logits[indices]),
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss summed over texts."""
        scores = model(batch["rows"], batch["texts"], len(batch["labels"])).float()
        return answer_loss(scores, batch, self._label_weight, self._temperature)

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return mean ``loss`` and ``agreement``: texts with the teacher's label."""
        loss, agreed = 0.0, 0
        for indices in length_batches(encoded.lengths, 16_384, seed=None):
            batch = {k: v.to(precision.device) for k, v in self.collate(encoded, indices).items()}
            with torch.inference_mode():
                scores = model(batch["rows"], batch["texts"], len(indices))
            loss += float(answer_loss(scores, batch, self._label_weight, self._temperature))
            agreed += agreeing(scores, batch)
        return {"loss": loss / len(encoded.labels), "agreement": agreed / len(encoded.labels)}
