"""The losses of the processes' shares of a batch sum to the loss of the whole, for every objective."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, GPT2Config, GPT2LMHeadModel
from undercut.adalora import OrthogonalTask
from undercut.adapter_settings import AdapterConfig
from undercut.adapters import attach
from undercut.classifiers import load_base
from undercut.tasks.causal_lm import CausalLM
from undercut.tasks.distillation import Distillation
from undercut.tasks.masked_lm import MaskedLM
from undercut.tasks.multi_label_classification import MultiLabelClassification
from undercut.tasks.next_sentence import NextSentence
from undercut.tasks.protocol import Encoded, Objective
from undercut.tasks.static_distillation import StaticDistillation, StaticEncoder
from undercut.tasks.text_classification import TextClassification
from undercut.teaching import Answers

from tests.conftest import small_rows

LABELS = ["cancel", "refund", "track"]
TEXTS = [text for text, _ in small_rows()[:7]]
TRUTH = np.array([LABELS.index(label) for _, label in small_rows()[:7]])
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
Case = tuple[Objective, torch.nn.Module, Encoded]


def classification(base: Path) -> Case:
    task = TextClassification(base, 64, np.array([0.5, 1.0, 2.0]), 0.1)
    return task, load_base(base, LABELS, 0, True), task.encode(TEXTS, TRUTH)


def several_labels(base: Path) -> Case:
    task = MultiLabelClassification(base, 64)
    return task, load_base(base, LABELS, 0, True), task.encode(TEXTS, np.eye(3, dtype=np.int64)[TRUTH])


def orthogonal(base: Path) -> Case:
    task, model, rows = classification(base)
    assert isinstance(task, TextClassification)
    return OrthogonalTask(task), attach(model, AdapterConfig(method="adalora", rank=4), 50, 64), rows  # type: ignore[arg-type]


def distillation(base: Path) -> Case:
    task = Distillation(base, 64, 0.2, 1.0, 2.0)
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(7, 3)).astype(np.float32)
    states = generator.normal(size=(7, 2, 2, 64)).astype(np.float16)
    labels = np.where(np.arange(7) < 4, TRUTH, -100)
    return task, load_base(base, LABELS, 0, True), task.taught(TEXTS, labels, Answers(logits=logits, states=states))


def static(base: Path) -> Case:
    task = StaticDistillation(lambda texts: [[len(word) for word in text.split()] for text in texts], 0.5, 1.0)
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(20, 8)).astype(np.float32)
    model = StaticEncoder(vectors, np.ones(20, np.float32), 16, 3, 0.0)
    return task, model, task.taught(TEXTS, TRUTH, generator.normal(size=(7, 3)).astype(np.float32))


def masked(base: Path) -> Case:
    task = MaskedLM(base, 16)
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=task.tokenizer.get_vocab_size(), **SIZES))
    return task, model, task.encode(TEXTS * 4, np.zeros(28, np.int64))


def next_sentence(base: Path) -> Case:
    task = MaskedLM(base, 16)
    rows = task.encode(TEXTS * 4, np.zeros(28, np.int64))
    starts = (np.asarray(rows.ids) == task.begin).sum(1)
    # A bit a pair, and one that ends them.
    labels = np.array([(1 << n) | (0b0101010101 & ((1 << n) - 1)) for n in starts.tolist()])
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(vocab_size=task.tokenizer.get_vocab_size(), **SIZES))
    return NextSentence(task, 0), model, Encoded(ids=rows.ids, lengths=rows.lengths, labels=labels)


def causal(base: Path) -> Case:
    from tokenizers import Tokenizer

    folder = base.parent / "causal"
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    task = CausalLM(folder, 16)
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=16))
    return task, model, task.encode(TEXTS * 4, np.zeros(28, np.int64))


CASES = [classification, several_labels, orthogonal, distillation, static, masked, next_sentence, causal]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_sum_to_the_whole(tiny_base: Path, case: Callable[[Path], Case], processes: int) -> None:
    task, model, rows = case(tiny_base)
    model.eval()
    indices = np.arange(len(rows.labels))[1:]

    def loss(share: slice) -> tuple[float, torch.Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        value = task.loss(model, task.collate(rows, indices, share))
        value.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return float(value.detach()), torch.cat(gradients)

    whole, gradient = loss(slice(None))
    parts = [loss(slice(rank, None, processes)) for rank in range(processes)]
    assert sum(value for value, _ in parts) == pytest.approx(whole, rel=1e-5)
    summed = torch.stack([part for _, part in parts]).sum(0)
    assert torch.allclose(summed, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    assert all(0 < value < whole for value, _ in parts)
