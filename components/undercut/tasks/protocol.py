"""What a task gives to the training loop. A new task is one new module beside this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from undercut.optimization import Precision


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Tokenised rows: ``ids[i]`` has ``lengths[i]`` token ids; ``labels`` has shape (rows,).

    Where a row may have several labels, ``labels`` are zeros and ones of shape (rows, labels).
    Packed text has rows of one length: ``ids`` is then an array of shape (rows, length), possibly one
    that is mapped from a file, and ``labels`` are zeros.
    """

    ids: Sequence[Sequence[int]] | NDArray[Any]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


Batch = Mapping[str, torch.Tensor]
EVERY = slice(None)


class Objective(Protocol):
    """What is learned from rows that are tokenised: how they become batches, a batch a loss, predictions figures."""

    def collate(self, encoded: Encoded, indices: NDArray[np.int64], share: slice = EVERY) -> Batch:
        """Pad the rows at ``indices[share]``, one at least, to one batch of tensors.

        What is drawn at random, and what a mean is taken over, is drawn and counted over all of ``indices``:
        the losses of the shares sum to the loss of the whole.
        """
        ...

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's rows, a scalar."""
        ...

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Precision) -> dict[str, Any]:
        """Return figures on held-out rows: ``loss`` (mean) and the task's own."""
        ...


class Task(Objective, Protocol):
    """One kind of problem: an objective, and how texts become its rows."""

    def encode(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
        """Tokenise rows."""
        ...
