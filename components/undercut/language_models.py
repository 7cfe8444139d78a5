"""Train a language model on packed text within a plan. What pretrain and transfer share.

The training is cut into ten intervals of equal length; after each the held-out loss is measured, and the
best interval's weights are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undercut import events
from undercut.batching import ShuffledBatches
from undercut.corpus import Corpus
from undercut.errors import ConfigurationError
from undercut.fitting import FitConfig, FitResult, fit
from undercut.tasks.protocol import Objective
from undercut.training import Batches, LoopConfig

INTERVALS = 10
HELD_OUT_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train, and how; zero for no limit.

    ``epochs`` (passes over the text), ``max_steps`` and ``max_tokens``, whichever is the least, decide where
    the learning rate reaches zero; ``max_seconds`` cuts the training short.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    sequence_length: int
    epochs: int
    max_steps: int
    max_tokens: int
    batch_tokens: int
    learning_rate: float
    max_seconds: float
    checkpoint_seconds: float
    seed: int

    def __post_init__(self) -> None:
        least = {"epochs": 1, "sequence_length": 16, "max_steps": 0, "max_tokens": 0, "checkpoint_seconds": 0}
        least |= {"seed": 0, "batch_tokens": self.sequence_length}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ConfigurationError(name, getattr(self, name), f"a number from {minimum}")
        if not 0 < self.learning_rate < 1:
            raise ConfigurationError("learning_rate", self.learning_rate, "a number above 0 and below 1")

    @property
    def rows_per_batch(self) -> int:
        """Return how many packed rows a batch holds."""
        return self.batch_tokens // self.sequence_length

    def steps(self, rows: int) -> int:
        """Return the steps on a corpus of so many packed rows: at least one, a multiple of the intervals."""
        limits = [self.epochs * rows // self.rows_per_batch]
        if self.max_steps:
            limits.append(self.max_steps)
        if self.max_tokens:
            limits.append(self.max_tokens // (self.rows_per_batch * self.sequence_length))
        steps = max(1, min(limits))
        return steps if steps < INTERVALS else steps // INTERVALS * INTERVALS


def fit_language_model(
    model: torch.nn.Module,
    task: Objective,
    text: Corpus,
    plan: Plan,
    folder: Path,
    before_interval: Callable[[int], None] | None = None,
) -> tuple[FitResult, dict[str, Any]]:
    """Train ``model`` in place and leave it with the best interval's weights.

    Args:
        model: a language model with its head.
        task: masked or causal language modelling, or one with more to it.
        text: packed rows.
        plan: how long and how.
        folder: checkpoints of this training; a good one there is resumed from.
        before_interval: called with the interval's number, from 0, before its first step.

    Returns:
        The course of the training, and the figures of the best interval: ``loss`` and ``perplexity`` on
        held-out text with what they were computed on, and what was trained on.
    """
    rows = len(text.train.labels)
    steps = plan.steps(rows)
    intervals = min(INTERVALS, steps)
    events.message(f"{text.tokens['train']:,} tokens to train on, {steps:,} steps of {plan.batch_tokens:,} tokens")

    def batches(interval: int) -> Batches:
        count = steps // intervals
        return ShuffledBatches(rows, plan.rows_per_batch, interval * count, count, plan.seed)

    loop = LoopConfig(
        epochs=intervals,
        learning_rate=plan.learning_rate,
        checkpoint_seconds=plan.checkpoint_seconds,
        max_seconds=plan.max_seconds,
        seed=plan.seed,
        epoch_name="interval",
    )
    settings = FitConfig(loop=loop, batch_tokens=plan.batch_tokens, patience=intervals)
    result = fit(
        model, task, text.train, text.held_out, settings, folder, batches=batches, before_epoch=before_interval
    )
    return result, _figures(text, result, plan)


def _figures(text: Corpus, result: FitResult, plan: Plan) -> dict[str, Any]:
    best = result.curve[result.best_epoch - 1]
    figures = {k.removeprefix("validation_"): v for k, v in best.items() if k.startswith("validation_")}
    tokens = figures.pop("tokens")
    events.message(f"held-out perplexity {figures['perplexity']:.1f} over {tokens:,} tokens guessed")
    return {
        **figures,
        "computed_on": {
            "what": "held-out texts of the same corpus, the same tokens guessed each time",
            "tokens_guessed": tokens,
            "rows": len(text.held_out.labels),
            "row_tokens": plan.sequence_length,
            "held_out_texts": text.texts["held_out"],
            "held_out_tokens": text.tokens["held_out"],
        },
        "trained_on": {"texts": text.texts["train"], "tokens": text.tokens["train"]},
        "best_step": best["step"],
        "tokens_seen": result.curve[-1]["step"] * plan.rows_per_batch * plan.sequence_length,
        "stopped_by": result.stopped_by,
        "curve": list(result.curve),
    }
