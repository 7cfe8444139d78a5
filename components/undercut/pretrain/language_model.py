"""Pretrain a language model from scratch on text without labels.

A tokenizer is trained on the text, the text is tokenised and packed once (:mod:`undercut.corpus`), and the
loop walks over the packed rows in a shuffled order that any position can be computed of. An interrupted
run goes on from there: the tokenizer, the shards already tokenised and the newest checkpoint are kept
until the model is written.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, corpus, events, workspace
from undercut.batching import ShuffledBatches
from undercut.fitting import FitConfig, FitResult, fit
from undercut.optimization import choose_precision
from undercut.pretrain.architectures import ARCHITECTURES, build, for_finetuning
from undercut.pretrain.settings import PretrainConfig
from undercut.pretrain.vocabulary import train_tokenizer
from undercut.tasks.masked_lm import SPECIAL, MaskedLM
from undercut.training import Batches, LoopConfig

LIMITS = ("max_seconds", "budget_usd", "usd_per_hour", "checkpoint_seconds")
INTERVALS = 10
HELD_OUT_ROWS = 512


def pretrain(data: Path, output: Path, config: PretrainConfig) -> artifacts.Manifest:
    """Pretrain on a dataset folder's unlabelled split and write a sealed model folder.

    Args:
        data: dataset folder with ``unlabelled.parquet`` or numbered shards.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``; a base for finetune.
        config: settings.

    Raises:
        ConfigurationError: there is no such split, or too little text in it.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    card = artifacts.load(data, artifacts.DATASET)
    files = corpus.shards(data)
    events.parameters(asdict(config))
    settings = {k: v for k, v in asdict(config).items() if k not in LIMITS}
    key = checkpoints.content_key(
        data=card["digest"],
        settings=settings,
        code=workspace.code_digest(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    folder = workspace.home() / "checkpoints" / key
    with checkpoints.locked(folder):
        tokenizer = _tokenizer(files, folder, config)
        model, content = _train(data, tokenizer, folder, config)
    for_finetuning(model)
    model.save_pretrained(output)
    shutil.copyfile(folder / "tokenizer.json", output / "tokenizer.json")
    manifest = artifacts.seal(
        output,
        artifacts.MODEL,
        {
            "labels": [],
            "format": "torch",
            "structure": "pretrained",
            "precision": "as-is",
            "base_model": None,
            "dataset": card["digest"],
            "parameters": settings,
            "parameter_count": sum(p.numel() for p in model.parameters()),
            "max_length": config.sequence_length,
            "lost": "",
            **content,
        },
    )
    shutil.rmtree(folder)
    return manifest


def _tokenizer(files: list[Path], folder: Path, config: PretrainConfig) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        special = ("<|endoftext|>",) if ARCHITECTURES[config.architecture].causal else SPECIAL
        tokenizer = train_tokenizer(files, config.tokenizer, config.vocabulary_size, config.lowercase, special)
        tokenizer.save(str(path.with_suffix(".partial")))
        path.with_suffix(".partial").replace(path)
    return Tokenizer.from_file(str(path))


def _train(
    data: Path, tokenizer: Tokenizer, folder: Path, config: PretrainConfig
) -> tuple[PreTrainedModel, dict[str, Any]]:
    task = MaskedLM(folder, config.sequence_length, config.masking, config.mask_probability)
    text = corpus.tokenize(
        data, tokenizer, folder / "tokens", config.sequence_length, task.begin, task.end, HELD_OUT_ROWS
    )
    model = build(
        config.architecture, config.size, tokenizer.get_vocab_size(), config.sequence_length, config.seed
    )
    rows, planned = len(text.train.labels), config.steps(len(text.train.labels))
    intervals = min(INTERVALS, planned)
    events.message(f"{text.tokens['train']:,} tokens to train on, {planned:,} steps of {config.batch_tokens:,} tokens")

    def batches(interval: int) -> Batches:
        count = planned // intervals
        return ShuffledBatches(rows, config.rows_per_batch, interval * count, count, config.seed)

    loop = LoopConfig(
        epochs=intervals,
        learning_rate=config.learning_rate,
        checkpoint_seconds=config.checkpoint_seconds,
        max_seconds=config.allowance_seconds,
        seed=config.seed,
        epoch_name="interval",
    )
    settings = FitConfig(loop=loop, batch_tokens=config.batch_tokens, patience=intervals)
    result = fit(model, task, text.train, text.held_out, settings, folder / "train", batches)
    return model, {
        "task": "masked-language-modelling",
        "method": f"masked language modelling from scratch, {config.masking} masks",
        "metrics": _metrics(model, task, text, result, config),
    }


def _metrics(
    model: PreTrainedModel, task: MaskedLM, text: corpus.Corpus, result: FitResult, config: PretrainConfig
) -> dict[str, Any]:
    """Return held-out figures with what they were computed on, and the curve."""
    figures = task.metrics(model, text.held_out, choose_precision("cpu"))
    best = result.curve[result.best_epoch - 1]
    events.message(f"held-out perplexity {figures['perplexity']:.1f} over {figures['tokens']:,} masked tokens")
    return {
        "perplexity": figures["perplexity"],
        "loss": figures["loss"],
        "accuracy": figures["accuracy"],
        "computed_on": {
            "what": "masked tokens of held-out text, the same masks each time",
            "tokens_guessed": figures["tokens"],
            "rows": len(text.held_out.labels),
            "row_tokens": config.sequence_length,
            "held_out_texts": text.texts["held_out"],
            "held_out_tokens": text.tokens["held_out"],
        },
        "trained_on": {"texts": text.texts["train"], "tokens": text.tokens["train"]},
        "steps": best["step"],
        "tokens_seen": best["step"] * config.rows_per_batch * config.sequence_length,
        "stopped_by": result.stopped_by,
        "curve": list(result.curve),
    }
