"""Text classification: one label a text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undercut.batching import length_batches
from undercut.optimization import Precision
from undercut.predictors import BatchTokenizer, pad
from undercut.tasks.protocol import EVERY, Batch, Encoded


class TextClassification:
    """Cross-entropy over the label set, optionally weighted by class.

    Args:
        tokenizer: folder that holds ``tokenizer.json``.
        max_length: tokens at which a text is cut, special tokens included.
        class_weights: weight of each label in the loss, shape (labels,); None weighs all alike.
        label_smoothing: share of each target that is spread over all labels (Szegedy et al. 2016).
    """

    def __init__(
        self,
        tokenizer: Path,
        max_length: int,
        class_weights: NDArray[np.float64] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._tokenizer = BatchTokenizer(tokenizer, max_length)
        self._weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self._smoothing = label_smoothing

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise rows."""
        ids = self._tokenizer.ids(texts)
        return Encoded(ids=ids, lengths=np.array([len(row) for row in ids], dtype=np.int64), labels=labels)

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return ``input_ids``, ``attention_mask`` of shape (rows, longest) and ``labels`` (rows,)."""
        indices = indices[share]
        ids, mask = pad([encoded.ids[i] for i in indices])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(encoded.labels[indices]),
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy summed over rows."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        weights = None if self._weights is None else self._weights.to(logits.device)
        return torch.nn.functional.cross_entropy(
            logits.float(), batch["labels"], weight=weights, reduction="sum", label_smoothing=self._smoothing
        )

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return mean ``loss`` and ``accuracy`` on held-out rows (classes unweighted)."""
        loss, correct = 0.0, 0
        for indices in length_batches(encoded.lengths, 4096, seed=None):
            batch = {k: v.to(precision.device) for k, v in self.collate(encoded, indices).items()}
            with torch.inference_mode(), precision.autocast():
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
            loss += float(torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum"))
            correct += int((logits.argmax(-1) == batch["labels"]).sum())
        return {"loss": loss / len(encoded.labels), "accuracy": correct / len(encoded.labels)}


def balanced_weights(labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return weights inversely proportional to class frequency, mean 1 over rows (King & Zeng 2001)."""
    frequency = np.bincount(labels, minlength=count)
    return len(labels) / (count * np.maximum(frequency, 1))
