"""AdaLoRA's part in a training: the rank budget, its allocation after each step, its regularizer.

Every update of a layer is P diag(E) Q with P and Q near orthogonal; triplets of low importance have their
E set to zero, ever more of them, until the budget is left (Zhang et al. 2023, "Adaptive Budget Allocation
for Parameter-Efficient Fine-Tuning"). peft computes importance and masks; what it keeps outside of the
model's parameters goes into the checkpoint here, so that a resumed training ends with the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undercut.optimization import Precision
from undercut.tasks.protocol import EVERY, Batch, Encoded, Task
from undercut.training import LoopState

AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
PREFIX = "adalora."


def budget(rank: int, steps: int) -> dict[str, Any]:
    """Return peft's settings: from one and a half times the rank to the rank, on average a layer.

    The first tenth of the steps has all ranks, the last three tenths the final ones.
    """
    return {
        "init_r": rank + max(1, rank // 2),
        "target_r": rank,
        "total_step": steps,
        "tinit": steps // 10,
        "tfinal": 3 * steps // 10,
    }


def singular_values(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return each layer's E, shape (ranks, 1), by its name in the tuned model."""
    parameters = model.base_model.model.named_parameters()  # type: ignore[union-attr]
    return {name: p for name, p in parameters if ".lora_E." in name}


def rank_pattern(model: torch.nn.Module) -> dict[str, list[bool]]:
    """Return which triplets of each layer are in use: those whose E is not zero."""
    return {name: (p != 0).flatten().tolist() for name, p in singular_values(model).items()}


class RankAllocation:
    """Called after each optimizer step, gradients still there: moves ranks to where they matter."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._tuner: Any = model.base_model

    def __call__(self, state: LoopState, tensors: dict[str, torch.Tensor]) -> None:
        """Allocate the budget of this step.

        Args:
            state: where the training stands; ``extra`` keeps the pattern in use.
            tensors: part of the checkpoint; keeps the moving averages of importance.
        """
        allocator, settings = self._tuner.rankallocator, self._tuner.peft_config["default"]
        if not allocator.ipt:
            self._restore(allocator, tensors)
        if settings.rank_pattern is None:
            settings.rank_pattern = state.extra.get("rank_pattern")
        self._tuner.update_and_allocate(state.step)
        state.extra["rank_pattern"] = settings.rank_pattern
        for name in [name for name in tensors if name.startswith(PREFIX)]:
            del tensors[name]
        for kind in AVERAGES:
            tensors |= {f"{PREFIX}{kind}.{name}": t for name, t in getattr(allocator, kind).items()}

    def _restore(self, allocator: Any, tensors: dict[str, torch.Tensor]) -> None:
        device = next(self._tuner.parameters()).device
        for kind in AVERAGES:
            prefix = f"{PREFIX}{kind}."
            found = {k.removeprefix(prefix): v.to(device) for k, v in tensors.items() if k.startswith(prefix)}
            getattr(allocator, kind).update(found)
            allocator.ipt.update({name: torch.zeros_like(t) for name, t in found.items()})


class OrthogonalTask:
    """A task whose loss also keeps P and Q near orthogonal, as the method requires.

    Args:
        task: the task itself.
        weight: of the mean Frobenius norm of PᵀP - I and QQᵀ - I, a row.
    """

    def __init__(self, task: Task, weight: float = 0.1) -> None:
        self._task, self._weight = task, weight

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise rows."""
        return self._task.encode(texts, labels)

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Pad rows to a batch."""
        return self._task.collate(encoded, indices, share)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the task's loss and the penalty, summed over the batch's rows."""
        return self._task.loss(model, batch) + self._weight * len(batch["labels"]) * orthogonality(model)

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return the task's figures; the penalty is none of them."""
        return self._task.metrics(model, encoded, precision)


def orthogonality(model: torch.nn.Module) -> torch.Tensor:
    """Return the mean Frobenius norm by which P and Q miss orthogonality, a scalar."""
    norms = []
    for name, p in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            product = p @ p.T if ".lora_A." in name else p.T @ p
            norms.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=p.device)))
    return torch.stack(norms).mean()
