"""Fine-tune a pretrained encoder for text classification.

Two passes over the same settings: the first trains on the training split and chooses the number of
epochs on the validation split; the second starts again from the base and trains that many epochs on
both, so that no labelled row is left unused. Where time or money end first, the first pass's best
weights are the model.
"""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, distributed, events, workspace
from undercut.base_models import find_base, longest_text
from undercut.classification_heads import describe_head
from undercut.classifiers import classification_task, fit_method, load_base, prepared
from undercut.costs import LIMITS
from undercut.errors import ConfigurationError
from undercut.finetune import methods
from undercut.finetune.settings import FinetuneConfig
from undercut.fitting import FitConfig, FitResult
from undercut.tasks.protocol import Encoded
from undercut.training import LoopConfig

# What is kept of the first pass: the best epoch's weights, and then, as a sign that they are whole, its result.
CHOSEN = ("chosen.safetensors", "chosen.json")


def finetune(
    data: Path, output: Path, config: FinetuneConfig, adapter: Path | None = None, made: Path | None = None
) -> artifacts.Manifest:
    """Fine-tune on a dataset folder and write a sealed model folder.

    Args:
        data: dataset folder with ``train`` and ``validation``.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        config: settings.
        adapter: where the adapter alone goes, if it is wanted.
        made: the base as transfer or pretrain made it; it stands before ``config.base_model``.

    Raises:
        ConfigurationError: the base model cannot be read or is no encoder with a fast tokenizer; or the
            training diverged from its first epoch on; or the method is prefix, whose model is loaded onto
            its base again and again, and the base is not one that a URI leads to.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    card = artifacts.load(data, artifacts.DATASET)
    base, origin = find_base(config.base_model, made)
    if config.method == "prefix" and "structure" in origin:
        raise ConfigurationError("method", "prefix", f"any other on a base that is {origin['structure']}")
    config = replace(config, max_length=longest_text(base, config.max_length))
    if head := describe_head(base, card["labels"]):
        events.message(head)
    events.parameters(asdict(config))
    settings = {k: v for k, v in asdict(config).items() if k not in (*LIMITS, "base_model")}
    key = checkpoints.content_key(
        base=origin["digest"],
        data=card["digest"],
        settings=settings,
        code=workspace.code_digest(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    folder = workspace.home() / "checkpoints" / key
    with checkpoints.locked(folder):
        model, result, method, decision = _two_passes(data, card["labels"], base, config, folder)
    content = {
        "task": card["task"],
        "labels": card["labels"],
        "structure": "finetuned",
        "precision": "as-is",
        "base_model": origin,
        "dataset": card["digest"],
        "method": method,
        "parameters": settings,
        "max_length": config.max_length,
        **decision,
        "metrics": {"best_epoch": result.best_epoch, "stopped_by": result.stopped_by, "curve": list(result.curve)},
        "lost": "",
    }
    output.mkdir(parents=True, exist_ok=True)
    manifest = methods.write(model, output, adapter, content, config.adapter, base)
    checkpoints.finish(folder)
    events.message(method)
    return manifest


def _two_passes(
    data: Path, labels: list[str], base: Path, config: FinetuneConfig, folder: Path
) -> tuple[torch.nn.Module, FitResult, str, dict[str, Any]]:
    texts, label_ids = artifacts.texts_and_labels(data, "train")
    held_texts, held_ids = artifacts.texts_and_labels(data, "validation")
    methods.check_out_of_scope(labels, config.out_of_scope_label, held_ids, config.out_of_scope_coverage)
    smoothing = config.label_smoothing
    task = classification_task(base, config.max_length, label_ids, len(labels), config.class_weights, smoothing)
    train, held = task.encode(texts, label_ids), task.encode(held_texts, held_ids)
    allowance = config.allowance_seconds
    loop = LoopConfig(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        checkpoint_seconds=config.checkpoint_seconds,
        # Half for choosing, half for the second pass; without a second pass all of it.
        max_seconds=allowance / 2 if config.refit else allowance,
        seed=config.seed,
    )
    settings = FitConfig(loop=loop, batch_tokens=config.batch_tokens, patience=config.patience)
    events.message(f"choosing the epoch: {len(train.labels):,} rows to train, {len(held.labels):,} to validate")
    untrained = load_base(base, labels, config.seed, config.train_embeddings)
    model = prepared(untrained, config.adapter, train, settings, config.max_length)
    result = _remembered(folder) or fit_method(model, task, train, held, settings, folder / "choose", config.method)
    _refuse_divergence(result, config)
    method = f"{methods.describe(config.adapter)}, epoch {result.best_epoch} of {config.epochs} chosen on validation"
    if (folder / "chosen.json").is_file():
        methods.restore_trained(model, folder / "chosen.safetensors")
    decision = methods.decision(model, task, held, labels, config.out_of_scope_label, config.out_of_scope_coverage)
    if not config.refit or result.stopped_by == "max_seconds":
        return model, result, f"{method}, stopped by {result.stopped_by or 'its end'}, no second pass", decision
    if not (folder / "chosen.json").is_file():
        methods.save_trained(model, folder / "chosen.safetensors")
        artifacts.write_json(folder / "chosen.json", asdict(result))
        for name in CHOSEN:
            checkpoints.remember(folder / name)
    events.message(f"epoch {result.best_epoch} was best: training again from the base on train and validation")
    both = Encoded(
        ids=[*train.ids, *held.ids],
        lengths=np.concatenate([train.lengths, held.lengths]),
        labels=np.concatenate([train.labels, held.labels]),
    )
    again = replace(settings, loop=replace(loop, stop_after_epochs=result.best_epoch))
    untrained = load_base(base, labels, config.seed, config.train_embeddings)
    model = prepared(untrained, config.adapter, both, settings, config.max_length)
    second = fit_method(model, task, both, None, again, folder / "refit", config.method)
    if reason := _second_pass_failed(result, second):
        events.message(f"the second pass is discarded: {reason}")
        methods.restore_trained(model, folder / "chosen.safetensors")
        return model, result, f"{method}; a second pass on all rows was discarded: {reason}", decision
    return model, result, f"{method}, trained again on train and validation", decision


def _refuse_divergence(result: FitResult, config: FinetuneConfig) -> None:
    loss = result.curve[result.best_epoch - 1]["validation_loss"]
    if not math.isfinite(loss):
        remedy = f"The training diverged (validation loss {loss}), or the base model holds numbers that are none"
        raise ConfigurationError("learning_rate", config.learning_rate, "a smaller rate", remedy)


def _second_pass_failed(first: FitResult, second: FitResult) -> str:
    """Say why the second pass cannot be trusted: it has no held-out rows to be judged by."""
    if second.stopped_by:
        return f"stopped by {second.stopped_by}"
    expected, got = first.curve[first.best_epoch - 1]["train_loss"], second.curve[-1]["train_loss"]
    close = got <= 1.25 * expected + 0.05  # False also where the loss is not a number
    return "" if close else f"training loss {got:.3f} against {expected:.3f} in the first"


def _remembered(folder: Path) -> FitResult | None:
    """Return the first pass's result if an interrupted run had finished that pass."""

    def found() -> dict[str, Any] | None:
        complete = all(checkpoints.recall(folder / name) for name in CHOSEN)
        return json.loads((folder / "chosen.json").read_text()) if complete else None

    result = distributed.of_first(found)
    if result is None:
        return None
    events.message("the epoch was chosen by an interrupted run")
    return FitResult(**result)
