"""Settings of pretraining."""

from dataclasses import dataclass

from undercut.costs import allowance_seconds
from undercut.errors import ConfigurationError
from undercut.plan import MASKINGS, Plan

MINIMUM_VOCABULARY = 300
HEAD_DIMENSIONS = 64
TOKENIZERS = ("wordpiece", "bpe")
ARCHITECTURES = ("bert", "gpt2", "llama")
CAUSAL = ("gpt2", "llama")  # they guess the next token
OF_PAIRS = ("bert",)  # these can learn which sentences follow each other


@dataclass(frozen=True)
class Size:
    """Layers, and the width of their hidden states."""

    layers: int
    width: int

    @property
    def heads(self) -> int:
        """Return the attention heads of a layer."""
        return self.width // HEAD_DIMENSIONS


SIZES = {
    "tiny": Size(2, 128),
    "mini": Size(4, 256),
    "small": Size(4, 512),
    "medium": Size(8, 512),
    "base": Size(12, 768),
}


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of pretraining; times in seconds, money in US dollars, zero for no limit.

    ``epochs``, ``max_steps`` and ``max_tokens`` plan the training, whichever is the least, and the learning
    rate falls to zero at the plan's end; time and money cut it short. With ``epochs`` 0 pretraining is left out.

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
    next_sentence: bool = False
    epochs: int = 1
    max_steps: int = 0
    max_tokens: int = 0
    learning_rate: float = 1e-3
    batch_tokens: int = 4096
    max_seconds: float = 0.0
    budget_usd: float = 0.0
    usd_per_hour: float = 0.0
    checkpoint_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"architecture": ARCHITECTURES, "size": tuple(SIZES), "tokenizer": TOKENIZERS}
        for name, allowed in {**choices, "masking": MASKINGS}.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if self.vocabulary_size < MINIMUM_VOCABULARY:
            raise ConfigurationError("vocabulary_size", self.vocabulary_size, f"a number from {MINIMUM_VOCABULARY}")
        if not 0 < self.mask_probability < 1:
            raise ConfigurationError("mask_probability", self.mask_probability, "a number above 0 and below 1")
        if self.causal and self.tokenizer != "bpe":
            raise ConfigurationError(
                "tokenizer", self.tokenizer, f"bpe for {self.architecture}", "It has to give back the text it reads"
            )
        if self.next_sentence and self.architecture not in OF_PAIRS:
            raise ConfigurationError("next_sentence", True, f"False unless the architecture is {', '.join(OF_PAIRS)}")
        if self.epochs < 0:
            raise ConfigurationError("epochs", self.epochs, "a whole number from 0", "0 leaves pretraining out")
        if self.epochs:
            _ = self.plan  # building it checks it

    @property
    def causal(self) -> bool:
        """Return whether the model guesses the next token, not hidden ones."""
        return self.architecture in CAUSAL

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
