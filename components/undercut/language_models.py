"""Train a language model on packed text within a plan. What pretrain and transfer share.

The training is cut into ten intervals of equal length; after each the held-out loss is measured, and the
best interval's weights are kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from undercut import events
from undercut.batching import ShuffledBatches
from undercut.corpus import Corpus
from undercut.fitting import FitConfig, FitResult, fit
from undercut.plan import INTERVALS, Plan
from undercut.tasks.protocol import Objective
from undercut.training import Batches, LoopConfig

HELD_OUT_ROWS = 512


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
