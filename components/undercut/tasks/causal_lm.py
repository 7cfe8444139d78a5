"""Causal language modelling: guess each token from those before it (Radford et al. 2019).

Rows are packed: texts one after another, each followed by the token that ends a text; attention may look
back over it, as in GPT-2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from undercut.batching import pack
from undercut.corpus import packed
from undercut.optimization import Precision
from undercut.tasks.protocol import EVERY, Batch, Encoded

END = "<|endoftext|>"
EVALUATION_TOKENS = 4096


class CausalLM:
    """Cross-entropy of each token of a row but the first.

    Args:
        tokenizer: folder that holds ``tokenizer.json``, with ``<|endoftext|>`` in its vocabulary.
        length: tokens of a packed row.
    """

    def __init__(self, tokenizer: Path, length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self._length = length
        self.begin: int | None = None
        self.end = self._tokenizer.get_vocab()[END]

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise and pack texts; ``labels`` are not looked at."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return packed(pack([e.ids for e in encodings], self.begin, self.end, self._length))

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Return ``input_ids`` of shape (rows, length)."""
        assert isinstance(encoded.ids, np.ndarray), "packed rows"
        return {"input_ids": torch.from_numpy(encoded.ids[indices[share]].astype(np.int64))}

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the tokens, times the batch's rows."""
        ids = batch["input_ids"]
        return _cross_entropy(model, ids) / ids[:, 1:].numel() * len(ids)

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return mean ``loss``, ``perplexity``, ``tokens`` guessed and ``bits_per_byte``.

        Bits for each byte of text can be compared between tokenizers; perplexity cannot.
        """
        loss, tokens, size = 0.0, 0, 0
        rows = max(1, EVALUATION_TOKENS // self._length)
        for start in range(0, len(encoded.labels), rows):
            indices = np.arange(start, min(start + rows, len(encoded.labels)))
            ids = self.collate(encoded, indices)["input_ids"].to(precision.device)
            with torch.inference_mode(), precision.autocast():
                loss += float(_cross_entropy(model, ids))
            tokens += ids[:, 1:].numel()
            size += sum(len(text.encode()) for text in self._tokenizer.decode_batch(ids[:, 1:].tolist()))
        mean = loss / tokens
        return {
            "loss": mean,
            "perplexity": float(np.exp(mean)),
            "tokens": tokens,
            "bits_per_byte": loss / float(np.log(2)) / max(1, size),
        }


def _cross_entropy(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy summed over all tokens but each row's first."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum")


def sample(model: PreTrainedModel, tokenizer: Tokenizer, prompt: str, tokens: int, seed: int) -> str:
    """Return a text of up to ``tokens`` new tokens that the model writes after ``prompt``.

    Drawn from the 50 likeliest tokens each time (Fan et al. 2018); ends where the model ends it.
    """
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids or [tokenizer.get_vocab()[END]]
    torch.manual_seed(seed)
    model.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        written = model.generate(  # type: ignore[operator]
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            do_sample=True,
            top_k=min(50, tokenizer.get_vocab_size()),
            max_new_tokens=max(1, min(tokens, model.config.max_position_embeddings - len(ids))),
        )
    return str(tokenizer.decode(written[0].tolist(), skip_special_tokens=True))
