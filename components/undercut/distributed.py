"""One training in several processes, each on its share of every batch's rows (data parallelism).

``torchrun`` starts the processes and tells each its place by ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``;
without these there is one process, and every function here does nothing.

All processes walk through the same seeded batches. Each takes its share of a batch's rows, and since losses
are sums over rows divided by what does not depend on the share, the sum of the processes' gradients is one
process's gradient (up to the order in which floats are added). The sum is taken in one all-reduce over one
flat buffer after the backward pass. ``DistributedDataParallel`` is not used: objectives call parts of a model
(its head at the masked positions, say), which would go past its wrapper. What is decided by a clock, a file
or a figure is decided by the first process, which alone evaluates and writes.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import distributed

# Longer than an evaluation on held-out rows or the reading of a corpus, which the others wait for.
TIMEOUT = datetime.timedelta(hours=6)
_step = (0, 0)


def size() -> int:
    """Return the number of processes of this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Tell whether this process is the one that evaluates and writes."""
    return rank() == 0


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the other processes: over NCCL for what is on a GPU, over Gloo for the rest."""
    if size() == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=TIMEOUT)
    yield
    # Not where the training failed: the others may wait for this process, and are ended with it.
    distributed.destroy_process_group()


def same_start(model: torch.nn.Module) -> None:
    """Give all processes the first one's weights: what was computed on different processors may differ."""
    if size() > 1:
        for tensor in [*model.parameters(), *model.buffers()]:
            distributed.broadcast(tensor.detach(), 0)


def share() -> slice:
    """Return which rows of a batch are this process's: every n-th, so that lengths are alike in all shares."""
    return slice(rank(), None, size())


def begin_step(seed: int, step: int) -> None:
    """Say which step of which training comes next; :func:`own_randomness` follows from it."""
    global _step
    _step = (seed, step)


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Draw what follows (dropout) from a random state of this step and process alone.

    The common state, from which masks are drawn, goes on afterwards as if nothing had been drawn, and so
    stays common. With one process there is one state.
    """
    if size() == 1:
        yield
        return
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        seed, step = _step
        torch.manual_seed((seed * 1_000_003 + step) * size() + rank())
        yield


def reduce(value: torch.Tensor, parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
    """Sum the processes' gradients in place, and return the sum of their losses.

    A parameter that has a gradient in no process is left without one, as the optimizer would find it in one
    process; one that has it in some gets the sum of those.

    Args:
        value: this process's loss, a scalar.
        parameters: the same ones in each process.
    """
    if size() == 1:
        return value.detach()
    trained = list(parameters)
    device = trained[0].device
    found = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32, device=device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([value.detach().float().reshape(1), found, *(g.float().flatten() for g in gradients)])
    distributed.all_reduce(flat)
    place = 1 + len(trained)
    for parameter, has, gradient in zip(trained, flat[1:place].tolist(), gradients, strict=True):
        if has:
            gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
            parameter.grad = gradient
        place += gradient.numel()
    return flat[0]


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Tell of each flag whether it is set in any process; all get the same answer."""
    if size() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.float32)
    distributed.all_reduce(found)
    return tuple(bool(count) for count in found.tolist())


def of_first(find: Callable[[], Any]) -> Any:
    """Return what the first process finds, which is JSON; the others do not look."""
    if size() == 1:
        return find()
    data = json.dumps(find()).encode() if is_first() else b""
    return json.loads(_bytes_of_first(data))


def state_of_first(
    find: Callable[[], tuple[dict[str, torch.Tensor], dict[str, Any]] | None],
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return the tensors and the JSON beside them that the first process finds; the others do not look."""
    if size() == 1:
        return find()
    found = find() if is_first() else None
    content: Mapping[str, Any] | None = of_first(lambda: found and found[1])
    if content is None:
        return None
    return load(_bytes_of_first(save(found[0]) if found else b"")), dict(content)


def _bytes_of_first(data: bytes) -> bytes:
    length = torch.tensor([len(data)])
    distributed.broadcast(length, 0)
    buffer = torch.empty(int(length.item()), dtype=torch.uint8)
    if is_first():
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    distributed.broadcast(buffer, 0)
    return buffer.numpy().tobytes()
