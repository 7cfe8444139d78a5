"""Distillation: a student learns a teacher's probabilities and hidden states, and the labels where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from undercut.batching import length_batches
from undercut.encoders import pooled
from undercut.optimization import Precision
from undercut.predictors import BatchTokenizer, FloatArray, pad
from undercut.tasks.protocol import EVERY, Batch, Encoded
from undercut.teaching import UNLABELLED, Answers


@dataclass(frozen=True, kw_only=True)
class Taught(Encoded):
    """Tokenised rows with the teacher's ``logits`` (rows, labels) and ``states`` (rows, layers, 2, hidden size)."""

    logits: FloatArray
    states: NDArray[np.float16]


class Distillation:
    """Three losses in one sum.

    Against the teacher's probabilities, both softened by a temperature (Hinton et al. 2015); against the
    labels; and one minus the cosine between the student's and the teacher's states, layer by layer (Sun
    et al. 2019, "Patient knowledge distillation", who compare the first token's; here its mean with the
    mean token's, which is what a model pooled by the mean was trained for). The states of a text are two
    vectors a layer and not one a token, so that all of them fit in memory and are computed once.

    Args:
        tokenizer: folder that holds ``tokenizer.json``.
        max_length: tokens at which a text is cut, special tokens included.
        label_weight: share of the labels against the teacher's probabilities, where a row has a label.
        state_weight: weight of the states' loss beside the two others.
        temperature: divides both sides' logits.
    """

    def __init__(
        self, tokenizer: Path, max_length: int, label_weight: float, state_weight: float, temperature: float
    ) -> None:
        self._tokenizer = BatchTokenizer(tokenizer, max_length)
        self._label_weight, self._state_weight, self._temperature = label_weight, state_weight, temperature

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise rows; a label of -100 stands for none."""
        ids = self._tokenizer.ids(texts)
        return Encoded(ids=ids, lengths=np.array([len(row) for row in ids], dtype=np.int64), labels=labels)

    def taught(self, texts: Sequence[str], labels: NDArray[np.int64], answers: Answers) -> Taught:
        """Tokenise rows and put the teacher's answers beside them."""
        return Taught(**vars(self.encode(texts, labels)), logits=answers.logits, states=answers.states)

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return ``input_ids``, ``attention_mask``, ``labels``, and the teacher's ``logits`` and ``states``."""
        indices = indices[share]
        assert isinstance(encoded, Taught), type(encoded)
        ids, mask = pad([encoded.ids[i] for i in indices])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(encoded.labels[indices]),
            "logits": torch.from_numpy(encoded.logits[indices]),
            "states": torch.from_numpy(encoded.states[indices].astype(np.float32)),
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the weighted losses summed over rows."""
        found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        total = answer_loss(found.logits.float(), batch, self._label_weight, self._temperature)
        if self._state_weight:
            states = pooled(found.hidden_states[1:], batch["attention_mask"])
            distance = 1 - functional.cosine_similarity(states, batch["states"], dim=-1)
            total = total + self._state_weight * distance.mean(dim=(1, 2)).sum()
        return total

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return mean ``loss`` (without the states') and ``agreement``: rows with the teacher's label."""
        loss, agreed = 0.0, 0
        for indices in length_batches(encoded.lengths, 4096, seed=None):
            batch = {k: v.to(precision.device) for k, v in self.collate(encoded, indices).items()}
            with torch.inference_mode(), precision.autocast():
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
            loss += float(answer_loss(logits, batch, self._label_weight, self._temperature))
            agreed += agreeing(logits, batch)
        return {"loss": loss / len(encoded.labels), "agreement": agreed / len(encoded.labels)}


def answer_loss(logits: torch.Tensor, batch: Batch, label_weight: float, temperature: float) -> torch.Tensor:
    """Return the loss against the teacher's ``logits`` and, where a row has one, its label; summed over rows.

    Where rows may have several labels, both are binary, label by label.
    """
    if batch["labels"].dim() == 2:
        return _answer_loss_of_sets(logits, batch, label_weight, temperature)
    soft = divergence(logits, batch["logits"], temperature)
    labelled = batch["labels"] != UNLABELLED
    hard = functional.cross_entropy(logits, batch["labels"], ignore_index=UNLABELLED, reduction="none")
    share = label_weight * labelled
    return ((1 - share) * soft + share * hard).sum()


def _answer_loss_of_sets(logits: torch.Tensor, batch: Batch, label_weight: float, temperature: float) -> torch.Tensor:
    wanted, found = batch["logits"] / temperature, logits / temperature
    cross = functional.binary_cross_entropy_with_logits(found, wanted.sigmoid(), reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(wanted, wanted.sigmoid(), reduction="none")
    soft = (cross - entropy).sum(dim=-1) * temperature**2
    labelled = batch["labels"][:, 0] != UNLABELLED
    truth = batch["labels"].clamp(min=0).float()
    hard = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=-1)
    share = label_weight * labelled
    return ((1 - share) * soft + share * hard).sum()


def agreeing(logits: torch.Tensor, batch: Batch) -> int:
    """Return how many rows have the teacher's label, or, where a row may have several, all its labels."""
    if batch["labels"].dim() == 2:
        return int(((logits > 0) == (batch["logits"] > 0)).all(dim=-1).sum())
    return int((logits.argmax(-1) == batch["logits"].argmax(-1)).sum())


def divergence(logits: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return each row's Kullback-Leibler divergence from the teacher, times the temperature squared.

    Args:
        logits: the student's, shape (rows, labels).
        targets: the teacher's logits, of the same shape.
        temperature: divides both; the square keeps the gradient's size (Hinton et al. 2015).
    """
    wanted = functional.log_softmax(targets / temperature, dim=-1)
    found = functional.log_softmax(logits / temperature, dim=-1)
    return functional.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=-1) * temperature**2
