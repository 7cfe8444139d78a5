"""Optimizer, schedule and numeric precision."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from undercut import events


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How matrix products are computed: in bfloat16 under autocast, or in float32."""

    device: str
    bf16: bool

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


def choose_precision(device: str) -> Precision:
    """Choose by what the processor has, never by a timing, so that a resumed run chooses alike.

    bfloat16 pays only where the processor multiplies it (AVX512_BF16, AMX, CUDA from Ampere on).
    Elsewhere float32 products go through oneDNN ("medium"), which on some processors is twice as
    fast as MKL, if a check shows that they are still float32-exact there.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        return Precision(device=device, bf16=torch.cuda.is_bf16_supported())
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return Precision(device=device, bf16=True)
    error = medium_error()
    torch.set_float32_matmul_precision("medium" if error < 1e-5 else "highest")
    if error >= 1e-5:
        events.message(f"oneDNN's fast float32 is off by {error:.1e} on this processor: not used")
    return Precision(device=device, bf16=False)


def medium_error() -> float:
    """Return the relative error of a product under "medium" against "highest", on this processor."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 384, generator=generator), torch.randn(384, 256, generator=generator))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision("medium")
    error = ((a @ b).double() - exact).norm() / exact.norm()
    torch.set_float32_matmul_precision(before)
    return float(error)


def adamw(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return fused AdamW; biases and norms (one-dimensional) do not decay."""
    trained = [(n, p) for n, p in parameters if p.requires_grad]
    groups = [
        {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)


def linear_schedule(step: int, steps: int, warmup_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up to 1, then linear decay to 0 at ``steps``."""
    if step < warmup_steps:
        return (step + 1) / max(1, warmup_steps)
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))
