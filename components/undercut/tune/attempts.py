"""A trial that its process left behind is tried again: several of Optuna's trials are then one of ours."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial


def origin(trial: FrozenTrial) -> int:
    """Return the number of the trial that this one repeats, or its own."""
    return int(trial.user_attrs.get("retry_of", trial.number))


def repeats(trials: Sequence[FrozenTrial], number: int) -> list[FrozenTrial]:
    """Return the trial ``number`` and those that repeat it."""
    return [trial for trial in trials if origin(trial) == number]


def position(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """Return a trial's number as it were if none had been tried again."""
    return sum(origin(other) == other.number < trial.number for other in trials)
