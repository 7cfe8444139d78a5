"""Masked language modelling: guess hidden tokens from the rest (Devlin et al. 2019).

Rows are packed: several texts one after another, each ``[CLS] text [SEP]``. Attention stays inside a
text and positions start anew with each, so that packing changes the cost and not the model. The output
layer, the dearest of a small model, is computed at the masked positions alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from undercut.batching import pack
from undercut.corpus import packed
from undercut.errors import ConfigurationError
from undercut.optimization import Precision
from undercut.tasks.protocol import EVERY, Batch, Encoded

PADDING = "[PAD]"
SPECIAL = (PADDING, "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The output layer of each kind of model, and whether its positions start after the padding id.
HEADS: dict[str, tuple[str, bool]] = {
    "bert": ("cls", False),
    "roberta": ("lm_head", True),
    "xlm-roberta": ("lm_head", True),
}
EVALUATION_TOKENS = 4096


class MaskedLM:
    """Cross-entropy at masked positions.

    80 % of the chosen tokens are replaced by the mask, 10 % by a random token, 10 % stay. Masks are drawn
    anew each time a row is seen, from torch's random state; on held-out rows they are always the same.

    Args:
        tokenizer: folder that holds ``tokenizer.json``.
        length: tokens of a packed row.
        masking: ``whole-word`` hides all pieces of a word together, ``token`` each by itself.
        probability: share of tokens that are hidden.
    """

    def __init__(self, tokenizer: Path, length: int, masking: str = "whole-word", probability: float = 0.15) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._length, self._probability = length, probability
        self.begin, self.end, self.mask = special_ids(self._tokenizer)
        starts, ordinary = _token_kinds(self._tokenizer, (self.begin, self.end, self.mask))
        self._starts = starts if masking == "whole-word" else torch.ones_like(starts)
        self._ordinary, self._replacements = ordinary, torch.nonzero(ordinary).flatten()

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer, without truncation."""
        return self._tokenizer

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise and pack texts; ``labels`` are not looked at."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return packed(pack([e.ids for e in encodings], self.begin, self.end, self._length))

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return the share of the rows at ``indices`` with masks drawn from torch's random state.

        ``input_ids``, ``position_ids`` and ``segments`` (number of the text in the row) have shape
        (rows, length); ``masked`` are the flat positions to guess and ``labels`` the tokens there. ``guesses``
        and ``rows`` count those of all shares.
        """
        return self.batch(encoded, indices, None, share)

    def batch(
        self,
        encoded: Encoded,
        indices: NDArray[np.int64],
        generator: torch.Generator | None,
        share: slice = EVERY,
    ) -> Batch:
        """Return the batch of :meth:`collate` with masks drawn from ``generator``; None for torch's own."""
        assert isinstance(encoded.ids, np.ndarray), "packed rows"
        ids = torch.from_numpy(encoded.ids[indices].astype(np.int64))
        starts = ids == self.begin
        segments = starts.cumsum(1)
        places = torch.arange(ids.shape[1]).expand_as(ids)
        position_ids = places - torch.where(starts, places, 0).cummax(1).values
        masked = self._choose(ids, generator)
        return {
            "input_ids": self._hide(ids, masked, generator)[share],
            "position_ids": position_ids[share],
            "segments": segments[share],
            "masked": masked[share].flatten().nonzero().flatten(),
            "labels": ids[share][masked[share]],
            "guesses": masked.sum(),
            "rows": torch.tensor(len(ids)),
        }

    def _choose(self, ids: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Return which tokens to guess: one draw a word, for all of its pieces."""
        words = self._starts[ids].cumsum(1)
        draws = torch.rand(ids.shape[0], ids.shape[1] + 1, generator=generator)
        return (draws.gather(1, words) < self._probability) & self._ordinary[ids]

    def _hide(self, ids: torch.Tensor, masked: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        fate = torch.rand(ids.shape, generator=generator)
        choice = torch.randint(len(self._replacements), ids.shape, generator=generator)
        hidden = torch.where(masked & (fate < 0.8), self.mask, ids)
        return torch.where(masked & (fate >= 0.9), self._replacements[choice], hidden)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the masked tokens, times the batch's rows; of a share, its part of that."""
        logits = masked_logits(model, batch).float()
        total = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
        return total / batch["guesses"].clamp(min=1) * batch["rows"]

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return ``loss`` and ``accuracy`` over masked tokens, ``perplexity`` and ``tokens`` guessed."""
        generator = torch.Generator().manual_seed(0)
        loss, correct, tokens = 0.0, 0, 0
        rows = max(1, EVALUATION_TOKENS // self._length)
        for start in range(0, len(encoded.labels), rows):
            indices = np.arange(start, min(start + rows, len(encoded.labels)))
            batch = {k: v.to(precision.device) for k, v in self.batch(encoded, indices, generator).items()}
            with torch.inference_mode(), precision.autocast():
                logits = masked_logits(model, batch).float()
            loss += float(torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum"))
            correct += int((logits.argmax(-1) == batch["labels"]).sum())
            tokens += len(batch["labels"])
        loss /= max(1, tokens)
        return {"loss": loss, "perplexity": float(np.exp(loss)), "accuracy": correct / max(1, tokens), "tokens": tokens}


def masked_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return logits at the masked positions, shape (masked, vocabulary)."""
    assert isinstance(model, PreTrainedModel), type(model)
    project: Callable[[torch.Tensor], torch.Tensor] = getattr(model, HEADS[model.config.model_type][0])
    return project(hidden_states(model, batch)[batch["masked"]])


def hidden_states(model: PreTrainedModel, batch: Batch, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
    """Return the last layer's states, shape (rows times length, hidden size); attention stays inside segments."""
    _, after_padding = HEADS[model.config.model_type]
    offset = model.config.pad_token_id + 1 if after_padding else 0
    segments = batch["segments"]
    types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    found: torch.Tensor = model.base_model(
        input_ids=batch["input_ids"],
        attention_mask=(segments[:, :, None] == segments[:, None, :])[:, None],
        position_ids=batch["position_ids"] + offset,
        **types,
    ).last_hidden_state
    return found.flatten(0, 1)


def special_ids(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """Return the ids that begin a text, end it, and hide a token, in BERT's words or RoBERTa's.

    Raises:
        ConfigurationError: the vocabulary has neither.
    """
    for names in (("[CLS]", "[SEP]", "[MASK]"), ("<s>", "</s>", "<mask>")):
        begin, end, mask = (tokenizer.token_to_id(name) for name in names)
        if begin is not None and end is not None and mask is not None:
            return begin, end, mask
    raise ConfigurationError(
        "tokenizer.json", "a vocabulary without them", "one with [CLS], [SEP] and [MASK], or <s>, </s> and <mask>"
    )


def _token_kinds(tokenizer: Tokenizer, special: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each token whether it starts a word, and whether it is an ordinary token."""
    vocabulary = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    pieces = any(token.startswith("##") for token in vocabulary)
    starts, ordinary = torch.ones(size, dtype=torch.bool), torch.ones(size, dtype=torch.bool)
    for token, index in vocabulary.items():
        # WordPiece marks what continues a word; byte-level BPE and SentencePiece mark what starts one.
        starts[index] = not token.startswith("##") if pieces else token[:1] in ("Ġ", "Ċ", "▁")
    added = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    named = [vocabulary[name] for name in (*SPECIAL, "<pad>", "<unk>", "<|endoftext|>") if name in vocabulary]
    for index in {*special, *added, *named}:
        starts[index], ordinary[index] = True, False
    return starts, ordinary
