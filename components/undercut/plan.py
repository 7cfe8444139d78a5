"""How long and how a language model is trained: what pretrain and transfer let a user set."""

from dataclasses import dataclass

from undercut.errors import ConfigurationError

INTERVALS = 10
MASKINGS = ("whole-word", "token")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train, and how; zero for no limit.

    ``epochs`` (passes over the text), ``max_steps`` and ``max_tokens``, whichever is the least, decide where
    the learning rate reaches zero; ``max_seconds`` cuts the training short.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    sequence_length: int
    epochs: int
    max_steps: int
    max_tokens: int
    batch_tokens: int
    learning_rate: float
    max_seconds: float
    checkpoint_seconds: float
    seed: int

    def __post_init__(self) -> None:
        least = {"epochs": 1, "sequence_length": 16, "max_steps": 0, "max_tokens": 0, "checkpoint_seconds": 0}
        least |= {"seed": 0, "batch_tokens": self.sequence_length}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ConfigurationError(name, getattr(self, name), f"a number from {minimum}")
        if not 0 < self.learning_rate < 1:
            raise ConfigurationError("learning_rate", self.learning_rate, "a number above 0 and below 1")

    @property
    def rows_per_batch(self) -> int:
        """Return how many packed rows a batch holds."""
        return self.batch_tokens // self.sequence_length

    def steps(self, rows: int) -> int:
        """Return the steps on a corpus of so many packed rows: at least one, a multiple of the intervals."""
        limits = [self.epochs * rows // self.rows_per_batch]
        if self.max_steps:
            limits.append(self.max_steps)
        if self.max_tokens:
            limits.append(self.max_tokens // (self.rows_per_batch * self.sequence_length))
        steps = max(1, min(limits))
        return steps if steps < INTERVALS else steps // INTERVALS * INTERVALS
