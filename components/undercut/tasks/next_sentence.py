"""Masked language modelling with next-sentence prediction, BERT's two objectives (Devlin et al. 2019).

Rows hold pairs, each ``[CLS] A [SEP] B [SEP]`` and what is left over padding; B's tokens have type 1. As with
other packed rows, attention stays inside a pair and positions start anew with each. Whether B follows A is
told from the vector of the pair's ``[CLS]`` by BERT's pooler and a head of two labels: 0 where it does, 1 where
it is another document's, as in the published checkpoints.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import BertForPreTraining

from undercut.optimization import Precision
from undercut.tasks.masked_lm import EVALUATION_TOKENS, MaskedLM, hidden_states
from undercut.tasks.protocol import EVERY, Batch, Encoded

# A row's label is an int64 with a bit a pair, and one that ends them.
MAXIMUM_PAIRS = 61


class NextSentence:
    """The mean cross-entropy of masked tokens and that of the pairs, in one sum.

    Args:
        masked: masked language modelling over the same rows, which :mod:`undercut.pretrain.sentence_pairs` packs.
        padding: id of ``[PAD]``.
    """

    def __init__(self, masked: MaskedLM, padding: int) -> None:
        self._masked, self._padding = masked, padding

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return the share of the rows at ``indices`` with masks drawn from torch's random state.

        Beside what :class:`undercut.tasks.masked_lm.MaskedLM` returns: ``token_type_ids`` of shape (rows,
        length); ``firsts``, the flat positions of the pairs' first tokens, and ``strangers`` (pairs,), 0 or 1;
        ``pairs`` counts those of all shares.
        """
        return self._batch(encoded, indices, None, share)

    def _batch(
        self,
        encoded: Encoded,
        indices: NDArray[np.int64],
        generator: torch.Generator | None,
        share: slice = EVERY,
    ) -> Batch:
        assert isinstance(encoded.ids, np.ndarray), "packed rows"
        batch = self._masked.batch(encoded, indices, generator, share)
        ids = batch["input_ids"]
        real = ids != self._padding
        starts = ids == self._masked.begin
        ends = (ids == self._masked.end).long()
        before = ends.cumsum(1) - ends
        in_pair = before - torch.where(starts, before, 0).cummax(1).values
        labels = torch.from_numpy(encoded.labels[indices[share]].astype(np.int64))
        place = starts.cumsum(1) - 1
        follows = (labels[:, None] >> place.clamp(min=0)) & 1
        return {
            **batch,
            # Padding sees padding alone.
            "segments": torch.where(real, batch["segments"], 0),
            "token_type_ids": ((in_pair > 0) & real).long(),
            "firsts": starts.flatten().nonzero().flatten(),
            "strangers": 1 - follows[starts],
            "pairs": torch.tensor(int((encoded.ids[indices] == self._masked.begin).sum())),
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sum of both means, times the batch's rows; of a share, its part of that."""
        tokens, pairs = _logits(model, batch)
        masked = functional.cross_entropy(tokens, batch["labels"], reduction="sum") / batch["guesses"].clamp(min=1)
        strangers = functional.cross_entropy(pairs, batch["strangers"], reduction="sum") / batch["pairs"]
        return (masked + strangers) * batch["rows"]

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return ``loss``, the sum of both; of masked tokens ``masked_loss``, ``perplexity``, ``accuracy``, ``tokens``.

        And of pairs ``next_sentence_loss``, ``next_sentence_accuracy``, ``next_sentence_pairs``.
        """
        generator = torch.Generator().manual_seed(0)
        losses, correct, counts = np.zeros(2), np.zeros(2), np.zeros(2)
        rows = max(1, EVALUATION_TOKENS // len(encoded.ids[0]))
        for start in range(0, len(encoded.labels), rows):
            indices = np.arange(start, min(start + rows, len(encoded.labels)))
            batch = {k: v.to(precision.device) for k, v in self._batch(encoded, indices, generator).items()}
            with torch.inference_mode(), precision.autocast():
                found = _logits(model, batch)
            for i, (logits, wanted) in enumerate(zip(found, (batch["labels"], batch["strangers"]), strict=True)):
                losses[i] += float(functional.cross_entropy(logits, wanted, reduction="sum"))
                correct[i] += int((logits.argmax(-1) == wanted).sum())
                counts[i] += len(wanted)
        masked, pairs = (losses / np.maximum(counts, 1)).tolist()
        accuracy = (correct / np.maximum(counts, 1)).tolist()
        return {
            "loss": masked + pairs,
            "masked_loss": masked,
            "perplexity": float(np.exp(masked)),
            "accuracy": accuracy[0],
            "tokens": int(counts[0]),
            "next_sentence_loss": pairs,
            "next_sentence_accuracy": accuracy[1],
            "next_sentence_pairs": int(counts[1]),
        }


def _logits(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits at the masked positions, (masked, vocabulary), and of the pairs, (pairs, 2)."""
    assert isinstance(model, BertForPreTraining), type(model)
    hidden = hidden_states(model, batch, batch["token_type_ids"])
    pooler = model.bert.pooler
    assert pooler is not None, "the second objective reads the pooler"
    firsts = pooler(hidden[batch["firsts"]][:, None])
    return model.cls.predictions(hidden[batch["masked"]]).float(), model.cls.seq_relationship(firsts).float()
