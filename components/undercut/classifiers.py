"""A text classifier on a pretrained encoder: load the base, train it once by a method. What finetune and tune share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from undercut import adapters
from undercut.adalora import OrthogonalTask, RankAllocation
from undercut.adapter_settings import AdapterConfig
from undercut.batching import length_batches
from undercut.classification_heads import head_labels, reorder_head
from undercut.fitting import FitConfig, FitResult, Watch, device, fit
from undercut.label_sets import is_multi_label, same
from undercut.optimization import choose_precision
from undercut.tasks.multi_label_classification import MultiLabelClassification, balanced_positive_weights
from undercut.tasks.protocol import Encoded, Task
from undercut.tasks.text_classification import TextClassification, balanced_weights


def load_base(base: Path, labels: Sequence[str], seed: int, train_embeddings: bool) -> PreTrainedModel:
    """Return the base with a classification head, the same for the same seed.

    The head is new, unless the base is a classifier already: then what it knows about these labels stays.

    Attention is computed plainly and without dropout on its weights: on texts of chat length the
    fused kernel is slower on a CPU, by half.
    """
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(base, local_files_only=True)
    # Encoders know this setting; causal models name theirs otherwise, and refuse it.
    no_dropout = {"attention_probs_dropout_prob": 0.0} if hasattr(config, "attention_probs_dropout_prob") else {}
    known = head_labels(config)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        attn_implementation="eager",
        ignore_mismatched_sizes=bool(known),
        **no_dropout,
    )
    assert isinstance(model, PreTrainedModel), type(model)
    if known and known != list(labels):
        reorder_head(model, base, known, labels)
    if not train_embeddings:
        model.get_input_embeddings().weight.requires_grad = False
    return model


def prepared(
    model: PreTrainedModel, config: AdapterConfig, rows: Encoded, settings: FitConfig, max_length: int
) -> torch.nn.Module:
    """Return a loaded base as the method trains it on ``rows``: as it is, or frozen with a fresh adapter."""
    steps = len(length_batches(rows.lengths, settings.batch_tokens, seed=0)) * settings.loop.epochs
    return adapters.attach(model, config, steps, max_length)


def fit_method(
    model: torch.nn.Module,
    task: Task,
    rows: Encoded,
    held: Encoded | None,
    settings: FitConfig,
    folder: Path,
    method: str,
    watch: Watch | None = None,
) -> FitResult:
    """Call :func:`undercut.fitting.fit`, with what AdaLoRA adds to the loss and to each step."""
    if method == "adalora":
        allocation = RankAllocation(model)
        return fit(model, OrthogonalTask(task), rows, held, settings, folder, watch, after_step=allocation)
    return fit(model, task, rows, held, settings, folder, watch)


def classification_task(
    tokenizer: Path,
    max_length: int,
    labels: NDArray[np.int64],
    count: int,
    class_weights: str = "none",
    label_smoothing: float = 0.0,
) -> Task:
    """Return the task that fits the labels: one label a row, or several.

    Args:
        tokenizer: folder that holds ``tokenizer.json``.
        max_length: tokens at which a text is cut.
        labels: of the training rows, shape (rows,), or zeros and ones of shape (rows, labels).
        count: how many labels there are.
        class_weights: ``none`` or ``balanced``.
        label_smoothing: share of each target that is spread over the other answers.
    """
    balanced = class_weights == "balanced"
    if is_multi_label(labels):
        weights = balanced_positive_weights(labels) if balanced else None
        return MultiLabelClassification(tokenizer, max_length, weights, label_smoothing)
    weights = balanced_weights(labels, count) if balanced else None
    return TextClassification(tokenizer, max_length, weights, label_smoothing)


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
    adapter: AdapterConfig | None = None,
    max_length: int = 0,
) -> tuple[torch.nn.Module, FitResult]:
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
        adapter: the method and its settings; None trains every weight.
        max_length: tokens of the longest text, which a prefix comes in front of.
    """
    adapter = adapter or AdapterConfig()
    untrained = load_base(base, labels, config.loop.seed, train_embeddings)
    model = prepared(untrained, adapter, train, config, max_length)
    return model, fit_method(model, task, train, held, config, folder, adapter.method, watch)


def correct_rows(model: torch.nn.Module, task: Task, rows: Encoded) -> NDArray[np.bool_]:
    """Tell of each row whether the model's answer is its label, shape (rows,); of several, whether all are right."""
    precision = choose_precision(device())
    model.to(precision.device).eval()
    correct = np.zeros(len(rows.labels), dtype=np.bool_)
    for indices in length_batches(rows.lengths, 4096, seed=None):
        batch = {k: v.to(precision.device) for k, v in task.collate(rows, indices).items()}
        with torch.inference_mode(), precision.autocast():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        answers = logits > 0 if is_multi_label(rows.labels) else logits.argmax(-1)
        correct[indices] = same(answers.long().cpu().numpy(), rows.labels[indices])
    model.to("cpu")
    return correct
