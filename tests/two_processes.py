"""Trains tiny models in float32 and writes their curves: run by test_distributed.py alone and under torchrun.

``python -m tests.two_processes DATA BASE PLAIN TARGET.json``, PLAIN a base without dropout; the first process writes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM
from undercut import artifacts, corpus, distributed, fitting
from undercut.adapter_settings import AdapterConfig
from undercut.classifiers import fit_method, load_base, prepared
from undercut.fitting import FitConfig
from undercut.language_models import fit_language_model
from undercut.optimization import Precision
from undercut.plan import Plan
from undercut.tasks.masked_lm import MaskedLM
from undercut.tasks.text_classification import TextClassification
from undercut.training import LoopConfig

LABELS = ["cancel", "refund", "track"]
PLAN = Plan(
    sequence_length=16,
    epochs=2,
    max_steps=20,
    max_tokens=0,
    batch_tokens=128,
    learning_rate=1e-3,
    max_seconds=0.0,
    checkpoint_seconds=0.0,
    seed=3,
)


class Interrupted(Exception):
    pass


def settings(**changes: Any) -> FitConfig:
    loop = LoopConfig(**{"epochs": 2, "learning_rate": 3e-3, "checkpoint_seconds": 0.0, "seed": 5, **changes})
    return FitConfig(loop=loop, batch_tokens=256)


def classifier(data: Path, base: Path, folder: Path, method: str = "full", **changes: Any) -> dict[str, Any]:
    """Fine-tune on 120 rows and on the odd one of a batch of its own; return the curve and the sum of the weights."""
    task = TextClassification(base, 64)
    texts, labels = artifacts.texts_and_labels(data, "train")
    long = " ".join(["where is my refund please"] * 20)
    rows = task.encode([*texts[:120], long], np.append(labels[:120], 1))
    held = task.encode(*(part[:60] for part in artifacts.texts_and_labels(data, "validation")))
    config = settings(**changes)
    model = prepared(load_base(base, LABELS, 0, False), AdapterConfig(method=method, rank=4), rows, config, 64)
    result = fit_method(model, task, rows, held, config, folder, method)
    return {
        "curve": list(result.curve),
        "weights": [float(p.detach().double().abs().sum()) for p in model.parameters()],
    }


def interrupted(data: Path, base: Path, folder: Path, at: int, **changes: Any) -> dict[str, Any]:
    """Do the same with an error in step ``at``, and then again to its end."""
    from undercut import training

    begin = distributed.begin_step

    def begin_step(seed: int, step: int) -> None:
        if step == at:
            raise Interrupted
        begin(seed, step)

    training.distributed.begin_step = begin_step
    try:
        classifier(data, base, folder, checkpoint_seconds=1e-9, **changes)
    except Interrupted:
        training.distributed.begin_step = begin
        return classifier(data, base, folder, checkpoint_seconds=1e-9, **changes)
    raise AssertionError("it was to be interrupted")


def masked(data: Path, base: Path, folder: Path) -> dict[str, Any]:
    """Train a masked language model, whose loss is a mean over what is masked."""
    task = MaskedLM(base, 16)
    text = corpus.tokenize(data, task.tokenizer, folder / "tokens", 16, task.begin, task.end, 64)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertForMaskedLM(BertConfig(vocab_size=task.tokenizer.get_vocab_size(), **sizes, **dropout))
    result, _ = fit_language_model(model, task, text, PLAN, folder / "train")
    return {
        "curve": list(result.curve),
        "weights": [float(p.detach().double().abs().sum()) for p in model.parameters()],
    }


def main(data: Path, base: Path, plain: Path, target: Path) -> None:
    fitting.choose_precision = lambda device: Precision(device="cpu", bf16=False)  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    root = target.with_suffix("") / str(distributed.rank())
    with distributed.group():
        found = {
            "full": classifier(data, plain, root / "full"),
            "adalora": classifier(data, plain, root / "adalora", "adalora"),
            "masked": masked(data, base, root / "masked"),
            "dropout": classifier(data, base, root / "dropout"),
            "interrupted": interrupted(data, base, root / "interrupted", 9),
        }
    if distributed.is_first():
        target.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
