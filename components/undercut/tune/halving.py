"""Successive halving without waiting (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

Optuna's pruner of this name keeps what it compares in the trials' own records: a trial that was killed and
tried again is counted twice there, and every search that is resumed goes another way than one that is not.
This one looks at the reported figures alone, of each trial the last attempt's.
"""

import math

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from undercut.tune.attempts import origin


class SuccessiveHalving(BasePruner):
    """At epochs 1, f, f², … a trial goes on if it is among the best 1/f of those that came so far.

    The first trials to come to an epoch, fewer than f, go on only if they are the best yet.

    Args:
        reduction_factor: f, from 2.
    """

    def __init__(self, reduction_factor: int) -> None:
        self._factor = reduction_factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial is to end at the epoch that it reported last."""
        epoch = trial.last_step
        if epoch is None or not self.is_rung(epoch):
            return False
        value = trial.intermediate_values[epoch]
        if math.isnan(value):
            return True
        sign = 1 if study.direction is StudyDirection.MAXIMIZE else -1
        others = (t for t in study.get_trials(deepcopy=False) if epoch in t.intermediate_values)
        figures = {origin(t): t.intermediate_values[epoch] for t in others} | {origin(trial): value}
        better = sum(sign * other > sign * value for other in figures.values())
        return better >= max(len(figures) // self._factor, 1)

    def is_rung(self, epoch: int) -> bool:
        """Tell whether trials are compared after this epoch, counted from 1."""
        while epoch % self._factor == 0:
            epoch //= self._factor
        return epoch == 1
