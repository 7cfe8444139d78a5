"""Settings of pretraining."""

from dataclasses import dataclass

from undercut.costs import allowance_seconds
from undercut.errors import ConfigurationError
from undercut.pretrain.architectures import ARCHITECTURES, SIZES
from undercut.pretrain.vocabulary import TOKENIZERS
from undercut.tasks.masked_lm import MASKINGS

MINIMUM_VOCABULARY = 300


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of pretraining; times in seconds, money in US dollars, zero for no limit.

    ``epochs``, ``max_steps`` and ``max_tokens`` plan the training, whichever is the least, and the learning
    rate falls to zero at the plan's end; time and money cut it short.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    architecture: str = "bert"
    size: str = "mini"
    tokenizer: str = "wordpiece"
    vocabulary_size: int = 30522
    lowercase: bool = True
    sequence_length: int = 128
    masking: str = "whole-word"
    mask_probability: float = 0.15
    epochs: int = 1
    max_steps: int = 0
    max_tokens: int = 0
    learning_rate: float = 1e-3
    batch_tokens: int = 4096
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"architecture": tuple(ARCHITECTURES), "size": tuple(SIZES), "tokenizer": TOKENIZERS}
        for name, allowed in {**choices, "masking": MASKINGS}.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(name, getattr(self, name), f"one of {', '.join(allowed)}")
        least = {"epochs": 1, "sequence_length": 16, "vocabulary_size": MINIMUM_VOCABULARY, "max_steps": 0}
        least |= {"max_tokens": 0, "checkpoint_seconds": 0, "seed": 0, "batch_tokens": self.sequence_length}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ConfigurationError(name, getattr(self, name), f"a number from {minimum}")
        for name in ("learning_rate", "mask_probability"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a number above 0 and below 1")
        if ARCHITECTURES[self.architecture].causal and self.tokenizer != "bpe":
            raise ConfigurationError(
                "tokenizer", self.tokenizer, f"bpe for {self.architecture}", "It has to give back the text it reads"
            )
        assert self.allowance_seconds >= 0, self

    @property
    def allowance_seconds(self) -> float:
        """Return the seconds that time and money allow together; 0 if neither is limited."""
        return allowance_seconds(self.max_seconds, self.budget_usd, self.usd_per_hour)

    def steps(self, rows: int) -> int:
        """Return the planned steps on a corpus of so many packed rows; at least one."""
        per_batch = self.rows_per_batch
        limits = [self.epochs * rows // per_batch]
        if self.max_steps:
            limits.append(self.max_steps)
        if self.max_tokens:
            limits.append(self.max_tokens // (per_batch * self.sequence_length))
        return max(1, min(limits))

    @property
    def rows_per_batch(self) -> int:
        """Return how many packed rows a batch holds."""
        return self.batch_tokens // self.sequence_length
