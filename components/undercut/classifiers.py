"""A text classifier on a pretrained encoder: load the base, train it once. What finetune and tune share."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from undercut import artifacts, events
from undercut.batching import length_batches
from undercut.errors import ConfigurationError
from undercut.fitting import FitConfig, FitResult, Watch, device, fit
from undercut.optimization import choose_precision
from undercut.storage import digest
from undercut.tasks.protocol import Encoded, Task

BASE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def check_base(base: Path, uri: str) -> str:
    """Return the digest of a base model's folder.

    Raises:
        ConfigurationError: a file is missing, or the model was pruned of attention heads.
    """
    for name in BASE_FILES:
        if not (base / name).is_file():
            raise ConfigurationError(
                "base_model", uri, f"a folder with {name}", "Save it with save_pretrained and a fast tokenizer"
            )
    if (base / artifacts.MODEL).is_file() and artifacts.load(base, artifacts.MODEL)["parameters"].get("heads"):
        remedy = "Give the model that it was made from; prune after fine-tuning"
        raise ConfigurationError("base_model", uri, "a base whose layers have all their attention heads", remedy)
    return digest(base)


def longest_text(base: Path, max_length: int) -> int:
    """Return ``max_length``, or the tokens that the base has positions for where those are fewer."""
    positions = json.loads((base / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    if positions is None or max_length <= positions:
        return max_length
    events.message(f"texts are cut at {positions} tokens, not at {max_length}: the base model has no more positions")
    return int(positions)


def load_base(base: Path, labels: Sequence[str], seed: int, train_embeddings: bool) -> PreTrainedModel:
    """Return the base with a new classification head, the same for the same seed.

    Attention is computed plainly and without dropout on its weights: on texts of chat length the
    fused kernel is slower on a CPU, by half.
    """
    torch.manual_seed(seed)
    # Encoders know this setting; causal models name theirs otherwise, and refuse it.
    known = hasattr(AutoConfig.from_pretrained(base, local_files_only=True), "attention_probs_dropout_prob")
    no_dropout = {"attention_probs_dropout_prob": 0.0} if known else {}
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        attn_implementation="eager",
        **no_dropout,
    )
    assert isinstance(model, PreTrainedModel), type(model)
    if not train_embeddings:
        model.get_input_embeddings().weight.requires_grad = False
    return model


def train_classifier(
    base: Path,
    labels: Sequence[str],
    task: Task,
    train: Encoded,
    held: Encoded | None,
    config: FitConfig,
    folder: Path,
    train_embeddings: bool = False,
    watch: Watch | None = None,
) -> tuple[PreTrainedModel, FitResult]:
    """Train the base once; with held-out rows, the model has the best epoch's weights.

    Args:
        base: folder of a pretrained encoder.
        labels: the label names.
        task: makes batches, loss and figures.
        train: rows to train on.
        held: rows to choose the epoch by; None trains to the end.
        config: settings; its loop's seed also makes the new layers.
        folder: checkpoints of this training; a good one there is resumed from.
        train_embeddings: train the token embeddings too.
        watch: called with the curve after each epoch; False stops the training.
    """
    model = load_base(base, labels, config.loop.seed, train_embeddings)
    return model, fit(model, task, train, held, config, folder, watch)


def correct_rows(model: torch.nn.Module, task: Task, rows: Encoded) -> NDArray[np.bool_]:
    """Tell of each row whether the model's answer is its label, shape (rows,)."""
    precision = choose_precision(device())
    model.to(precision.device).eval()
    correct = np.zeros(len(rows.labels), dtype=np.bool_)
    for indices in length_batches(rows.lengths, 4096, seed=None):
        batch = {k: v.to(precision.device) for k, v in task.collate(rows, indices).items()}
        with torch.inference_mode(), precision.autocast():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        correct[indices] = (logits.argmax(-1) == batch["labels"]).cpu().numpy()
    model.to("cpu")
    return correct
