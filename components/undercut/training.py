"""The training loop: steps over batches, stop conditions, checkpoints, exact resume. Nothing else.

What is trained and on what comes in as plain functions; see :mod:`undercut.fitting`. A run that was
interrupted and resumed ends with the same bits as one that was not, on the same machine with the same
number of threads: the batches of an epoch depend on the seed and the epoch's number alone, and a
checkpoint holds weights, moments, random state and position.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undercut import checkpoints, distributed, events, interruption
from undercut.optimization import Precision, adamw, linear_schedule

Batches = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of the loop; times in seconds, zero for no limit.

    An epoch is what lies between two calls of ``after_epoch``: a pass over the rows, or, on a corpus too
    large for that, a stretch of the stream; ``epoch_name`` is the word for it in messages.
    """

    epochs: int
    learning_rate: float
    stop_after_epochs: int = 0
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    maximum_gradient_norm: float = 1.0
    max_seconds: float = 0.0
    checkpoint_seconds: float = 120.0
    seed: int = 0
    epoch_name: str = "epoch"


@dataclass
class LoopState:
    """Where a training stands; everything here is in a checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    epoch_loss: float = 0.0
    stopped_by: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


AfterStep = Callable[[LoopState, dict[str, torch.Tensor]], None]


@interruption.watched()
def train(
    model: torch.nn.Module,
    batches: Callable[[int], Batches],
    loss: Callable[[NDArray[np.int64]], torch.Tensor],
    after_epoch: Callable[[LoopState], bool],
    config: LoopConfig,
    precision: Precision,
    folder: Path,
    extra_tensors: dict[str, torch.Tensor],
    before_epoch: Callable[[int], None] | None = None,
    after_step: AfterStep | None = None,
) -> LoopState:
    """Train ``model`` in place.

    Args:
        model: parameters with ``requires_grad`` are trained, and stored in checkpoints.
        batches: epoch number to that epoch's batches, a pure function; their count is the same in each.
        loss: a batch's loss, a scalar already scaled for the optimizer.
        after_epoch: called with the state when an epoch ends; False stops the training.
        config: settings.
        precision: where and how products are computed.
        folder: where checkpoints go; a good one there is resumed from.
        extra_tensors: tensors that belong to the state (the best weights so far), saved and restored.
        before_epoch: called with the epoch's number before its first step, also after a resume; may turn
            ``requires_grad`` of parameters off and on (what has no gradient is not changed).
        after_step: called with the state, its step counted from 0, and ``extra_tensors`` after each optimizer
            step, while the gradients are still there; AdaLoRA moves its ranks so.

    Returns:
        The final state; ``stopped_by`` is empty, ``early stopping`` or ``max_seconds``.

    Raises:
        Terminated: the process was asked to end; a checkpoint of its last step was saved.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = adamw(trained.items(), config.learning_rate, config.weight_decay)
    torch.manual_seed(config.seed)
    distributed.same_start(model)
    state = _resume(folder, trained, optimizer, extra_tensors)
    epochs = config.stop_after_epochs or config.epochs
    per_epoch = len(batches(0))
    steps = per_epoch * config.epochs
    started = saved = time.monotonic()
    before = state.seconds
    model.train()
    while state.epoch < epochs and not state.stopped_by:
        order = batches(state.epoch)
        if before_epoch:
            before_epoch(state.epoch)
        while state.batch < len(order):
            factor = linear_schedule(state.step, steps, round(steps * config.warmup_fraction))
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            distributed.begin_step(config.seed, state.step)
            with precision.autocast():
                value = loss(order[state.batch])
            value.backward()  # type: ignore[no-untyped-call]
            value = distributed.reduce(value, trained.values())
            torch.nn.utils.clip_grad_norm_(trained.values(), config.maximum_gradient_norm)
            optimizer.step()
            if after_step:
                after_step(state, extra_tensors)
            optimizer.zero_grad(set_to_none=True)
            state.batch += 1
            state.step += 1
            state.epoch_loss += float(value)
            _report(state, value, factor, per_epoch * epochs, config.epoch_name)
            state.seconds = before + time.monotonic() - started
            late = bool(config.max_seconds) and state.seconds >= config.max_seconds
            late, stop = distributed.any_of(late, interruption.requested())
            if late:
                state.stopped_by = "max_seconds"
                break
            if stop or checkpoints.due(saved, config.checkpoint_seconds):
                _save(folder, state, trained, optimizer, extra_tensors)
                saved = time.monotonic()
            if stop:
                interruption.end(state.step)
        if not after_epoch(state):
            state.stopped_by = state.stopped_by or "early stopping"
        model.train()
        state.epoch, state.batch, state.epoch_loss = state.epoch + 1, 0, 0.0
    (stop,) = distributed.any_of(interruption.requested())
    # Where a pod may vanish, the end is stored too: what follows may be another training.
    ended = state.seconds > before and state.stopped_by != "max_seconds"
    if stop or (ended and config.checkpoint_seconds and checkpoints.store()):
        _save(folder, state, trained, optimizer, extra_tensors)
    if stop:
        interruption.end(state.step)
    return state


def _report(state: LoopState, value: torch.Tensor, factor: float, total: int, unit: str) -> None:
    events.progress(state.step, total, f"{unit} {state.epoch + 1}, loss {float(value):.3f}")
    if state.step % 10 == 1:
        events.metric("train.loss", float(value), at=state.step)
        events.metric("train.learning_rate_factor", factor, at=state.step)


def _save(
    folder: Path,
    state: LoopState,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, torch.Tensor],
) -> None:
    tensors: dict[str, torch.Tensor] = {f"model.{n}": p for n, p in trained.items()}
    for name, parameter in trained.items():
        moments = optimizer.state[parameter]
        tensors |= {f"optimizer.{name}.{k}": v for k, v in moments.items()}
    tensors |= {f"extra.{n}": t for n, t in extra.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    checkpoints.save(folder, state.step, tensors, {"state": vars(state)})


def _resume(
    folder: Path,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    extra: dict[str, torch.Tensor],
) -> LoopState:
    found = distributed.state_of_first(lambda: checkpoints.newest(folder))
    if found is None:
        return LoopState()
    tensors, content = found
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[f"model.{name}"])
            prefix = f"optimizer.{name}."
            moments = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            optimizer.state[parameter] = {k: v.to(parameter.device) if k != "step" else v for k, v in moments.items()}
    extra.update({k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    state = LoopState(**content["state"])
    events.message(f"resumed at step {state.step} from the checkpoint of an interrupted run")
    return state
