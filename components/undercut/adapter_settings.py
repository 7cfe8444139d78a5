"""The methods of fine-tuning, full and by adapter (:mod:`undercut.adapters`), and their settings."""

from dataclasses import dataclass

from undercut.errors import ConfigurationError

METHODS = ("full", "lora", "rslora", "dora", "adalora", "prefix")
# Peak learning rates where the user gives none: for lora, adalora and prefix the better of two on 480 rows of
# 12 labels of banking77, three epochs; dora as lora; rslora, whose scale is four times larger, less (not tried).
LEARNING_RATES = {"full": 3e-4, "lora": 5e-3, "rslora": 2e-3, "dora": 5e-3, "adalora": 5e-3, "prefix": 3e-2}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Settings: ``rank`` and ``alpha`` of the LoRA family, ``virtual_tokens`` of a prefix.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    method: str = "full"
    rank: int = 16
    alpha: int = 16
    virtual_tokens: int = 20

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError("method", self.method, f"one of {', '.join(METHODS)}")
        for field, value in (("adapter_rank", self.rank), ("adapter_alpha", self.alpha)):
            if value < 1:
                raise ConfigurationError(field, value, "a whole number from 1")
        if self.virtual_tokens < 1:
            raise ConfigurationError("virtual_tokens", self.virtual_tokens, "a whole number from 1")
