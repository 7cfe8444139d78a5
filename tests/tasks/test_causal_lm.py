from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel
from undercut.optimization import Precision
from undercut.tasks.causal_lm import CausalLM, sample

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture
def task(tmp_path: Path) -> CausalLM:
    """Bytes as tokens."""
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["<|endoftext|>", *ALPHABET])}, merges=[]))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return CausalLM(tmp_path, length=8)


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    ).eval()


def test_texts_are_packed_with_their_end(task: CausalLM) -> None:
    rows = task.encode(["abcd", "ef", "ghijklmnop"], np.zeros(3, dtype=np.int64))
    assert np.asarray(rows.ids).shape == (2, 8)
    assert (np.asarray(rows.ids)[0] == task.end).tolist() == [False] * 4 + [True, False, False, True]


def test_loss_and_figures_are_those_of_transformers(task: CausalLM) -> None:
    rows = task.encode(["some text to read"] * 10, np.zeros(10, dtype=np.int64))
    batch = task.collate(rows, np.arange(4))
    net = model()
    with torch.inference_mode():
        expected = float(net(input_ids=batch["input_ids"], labels=batch["input_ids"]).loss)
        assert float(task.loss(net, batch)) / 4 == pytest.approx(expected, abs=1e-4)
    figures = task.metrics(net, rows, Precision(device="cpu", bf16=False))
    assert figures["perplexity"] == pytest.approx(np.exp(figures["loss"]))
    # One byte a token, but for the ends of texts, which are no text.
    assert figures["bits_per_byte"] == pytest.approx(figures["loss"] / np.log(2), rel=0.1)


def test_a_sample_is_seeded(task: CausalLM, tmp_path: Path) -> None:
    tokenizer, net = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), model()
    first, second, other = (sample(net, tokenizer, "ab", 20, seed) for seed in (1, 1, 2))
    assert first == second != other
    assert first.startswith("ab")
