"""Multi-label text classification: any number of labels a text, or none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from undercut.batching import length_batches
from undercut.optimization import Precision
from undercut.predictors import BatchTokenizer, pad
from undercut.tasks.protocol import EVERY, Batch, Encoded


class MultiLabelClassification:
    """Binary cross-entropy of each label, summed over labels: the log likelihood of independent labels.

    Args:
        tokenizer: folder that holds ``tokenizer.json``.
        max_length: tokens at which a text is cut, special tokens included.
        positive_weights: weight of each label in the rows that have it, shape (labels,); None weighs all alike.
        label_smoothing: share of each target that is spread over yes and no: 1 becomes 1 - smoothing / 2.
    """

    def __init__(
        self,
        tokenizer: Path,
        max_length: int,
        positive_weights: NDArray[np.float64] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._tokenizer = BatchTokenizer(tokenizer, max_length)
        self._weights = None if positive_weights is None else torch.tensor(positive_weights, dtype=torch.float32)
        self._smoothing = label_smoothing

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise rows; ``labels`` are zeros and ones, shape (rows, labels)."""
        ids = self._tokenizer.ids(texts)
        return Encoded(ids=ids, lengths=np.array([len(row) for row in ids], dtype=np.int64), labels=labels)

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return ``input_ids``, ``attention_mask`` of shape (rows, longest) and ``labels`` (rows, labels)."""
        indices = indices[share]
        ids, mask = pad([encoded.ids[i] for i in indices])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(encoded.labels[indices]),
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the binary cross-entropy summed over rows and labels."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        targets = batch["labels"].float() * (1 - self._smoothing) + self._smoothing / 2
        weights = None if self._weights is None else self._weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights, reduction="sum")

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return mean ``loss`` (labels unweighted), and ``accuracy`` and ``micro_f1`` at a threshold of 0.5.

        Accuracy is the share of rows with all labels right.
        """
        loss, right, hits, total = 0.0, 0, 0, 0
        for indices in length_batches(encoded.lengths, 4096, seed=None):
            batch = {k: v.to(precision.device) for k, v in self.collate(encoded, indices).items()}
            with torch.inference_mode(), precision.autocast():
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
            truth, answers = batch["labels"].bool(), logits > 0
            loss += float(functional.binary_cross_entropy_with_logits(logits, truth.float(), reduction="sum"))
            right += int((truth == answers).all(dim=1).sum())
            hits += int((truth & answers).sum())
            total += int(truth.sum() + answers.sum())
        rows = len(encoded.labels)
        return {"loss": loss / rows, "accuracy": right / rows, "micro_f1": 2 * hits / max(1, total)}


def balanced_positive_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rows without each label for one with it, from zeros and ones (rows, labels): both sides weigh the same."""
    positive = np.maximum(labels.sum(axis=0), 1)
    weights: NDArray[np.float64] = (len(labels) - positive) / positive
    return weights
