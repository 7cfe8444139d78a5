"""``fit``: what every stage that trains calls. Ties model, task and data to the loop.

Batches of like length, one evaluation on held-out rows an epoch, early stopping, the best epoch's
weights at the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undercut import distributed, events
from undercut.batching import length_batches
from undercut.optimization import Precision, choose_precision
from undercut.tasks.protocol import Encoded, Objective
from undercut.training import AfterStep, Batches, LoopConfig, LoopState, train

# Called after each epoch with the curve so far; False stops the training.
Watch = Callable[[Sequence[dict[str, Any]]], bool]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of one training run; ``patience`` in epochs, ``batch_tokens`` padding included."""

    loop: LoopConfig
    batch_tokens: int = 1024
    patience: int = 2


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What came of it: the epoch whose weights the model now has, and the curve that led there."""

    best_epoch: int
    epochs: int
    seconds: float
    stopped_by: str
    curve: Sequence[dict[str, Any]]


def device() -> str:
    """Return ``cuda`` where torch sees a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fit(
    model: torch.nn.Module,
    task: Objective,
    train_rows: Encoded,
    validation_rows: Encoded | None,
    config: FitConfig,
    folder: Path,
    watch: Watch | None = None,
    *,
    batches: Callable[[int], Batches] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    after_step: AfterStep | None = None,
) -> FitResult:
    """Train ``model`` in place; with validation rows, leave it with the best epoch's weights.

    Args:
        model: a ``transformers`` model; parameters that do not require a gradient stay as they are.
        task: makes batches, loss and figures.
        train_rows: rows to train on.
        validation_rows: rows to choose the epoch by (lowest loss); None trains to the end.
        config: settings.
        folder: checkpoints of this training.
        watch: called with the curve after each epoch; False stops the training.
        batches: epoch number to that epoch's batches; None groups rows of like length, all of them each time.
        before_epoch: called with the epoch's number before its first step.
        after_step: see :func:`undercut.training.train`.
    """
    precision = choose_precision(device())
    model.to(precision.device)
    best: dict[str, torch.Tensor] = {}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}

    def by_length(epoch: int) -> Batches:
        return length_batches(train_rows.lengths, config.batch_tokens, seed=config.loop.seed * 1_000_003 + epoch)

    batches = batches or by_length
    first = batches(0)
    rows_per_batch = len(train_rows.labels) / len(first) if batches is by_length else len(first[0])

    def loss(indices: NDArray[np.int64]) -> torch.Tensor:
        share = distributed.share()
        if not len(indices[share]):  # nothing to do but to draw what the others draw
            task.collate(train_rows, indices)
            return torch.zeros((), requires_grad=True)
        batch = {k: v.to(precision.device) for k, v in task.collate(train_rows, indices, share).items()}
        # Divided by the mean batch's rows, not by this batch's: each row weighs the same in an epoch.
        with distributed.own_randomness():
            return task.loss(model, batch) / rows_per_batch

    def after_epoch(state: LoopState) -> bool:
        more = _after_epoch(state, model, task, validation_rows, precision, config, best, trained)
        return (watch is None or watch(state.extra["curve"])) and more

    state = train(model, batches, loss, after_epoch, config.loop, precision, folder, best, before_epoch, after_step)
    if best:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in best:
                    parameter.copy_(best[name])
    model.to("cpu").eval()
    return FitResult(
        best_epoch=state.extra.get("best_epoch", state.epoch),
        epochs=state.epoch,
        seconds=state.seconds,
        stopped_by=state.stopped_by,
        curve=state.extra.get("curve", []),
    )


def _after_epoch(
    state: LoopState,
    model: torch.nn.Module,
    task: Objective,
    rows: Encoded | None,
    precision: Precision,
    config: FitConfig,
    best: dict[str, torch.Tensor],
    trained: set[str],
) -> bool:
    """Record the epoch, keep its weights if they are the best so far; False asks to stop."""
    epoch = state.epoch + 1
    point: dict[str, Any] = {"epoch": epoch, "step": state.step, "train_loss": state.epoch_loss / max(1, state.batch)}
    if rows is not None:
        model.eval()
        held_out = rows
        figures = distributed.of_first(lambda: task.metrics(model, held_out, precision))
        point |= {f"validation_{k}": v for k, v in figures.items()}
        for name, value in figures.items():
            events.metric(f"validation.{name}", value, at=epoch)
    state.extra.setdefault("curve", []).append(point)
    if rows is None:
        return True
    loss = math.inf if math.isnan(point["validation_loss"]) else point["validation_loss"]
    if loss < state.extra.get("best_loss", math.inf) or "best_epoch" not in state.extra:
        state.extra |= {"best_loss": loss, "best_epoch": epoch}
        best.update({n: p.detach().clone() for n, p in model.named_parameters() if n in trained})
    return bool(epoch - state.extra["best_epoch"] < config.patience)
