"""Which hyperparameters a trial gets: the defaults first, then those of TPE, the same for the same seed.

TPE (Bergstra et al. 2011) models good and bad trials apart and proposes where the ratio of their
densities is highest. Optuna's sampler draws from one random state a process, so that a resumed
search would repeat what it had drawn. Here each trial has a random state of its own, made from the
seed and the trial's number: a search interrupted and resumed proposes what it would have proposed.
"""

from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from undercut.tune.settings import SEARCHED, TuneConfig

RANDOM_TRIALS = 5


class SeededSampler(BaseSampler):
    """The defaults for trial 0, random points for the next four, then TPE."""

    def __init__(self, config: TuneConfig) -> None:
        self._config = config

    def _seed(self, trial: FrozenTrial) -> int:
        return self._config.seed * 1_000_003 + trial.number

    def _tpe(self, trial: FrozenTrial) -> TPESampler:
        return TPESampler(n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=self._seed(trial) % 2**32)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is sampled together: nothing for the defaults."""
        return {} if trial.number == 0 else self._tpe(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample the parameters of ``search_space`` together."""
        return self._tpe(trial).sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one parameter: its default in trial 0, otherwise at random."""
        if trial.number == 0:
            return self._config.defaults[param_name]
        # A state of its own for each name: one state would give all parameters the same quantile.
        seed = self._seed(trial) * len(SEARCHED) + SEARCHED.index(param_name)
        return RandomSampler(seed=seed % 2**32).sample_independent(study, trial, param_name, param_distribution)


def suggest(trial: Trial, config: TuneConfig) -> dict[str, Any]:
    """Return a trial's hyperparameters; a further one is a further line, a field and a use in ``trials``."""
    return {
        "learning_rate": trial.suggest_float(
            "learning_rate", config.learning_rate_low, config.learning_rate_high, log=True
        ),
        "epochs": trial.suggest_int("epochs", config.epochs_low, config.epochs_high),
        "batch_tokens": trial.suggest_int("batch_tokens", config.batch_tokens_low, config.batch_tokens_high, log=True),
    }


def pruner(config: TuneConfig) -> BasePruner:
    """Return the rule that ends a trial early; its resource is the epoch.

    Successive halving without waiting (Li et al. 2020): at epochs 1, f, f², … a trial goes on if it is
    among the best 1/f of those that came so far. Hyperband (Li et al. 2018) runs several such ladders.
    """
    match config.pruner:
        case "successive-halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=config.reduction_factor)
        case "hyperband":
            return HyperbandPruner(
                min_resource=1, max_resource=config.epochs_high, reduction_factor=config.reduction_factor
            )
        case _:
            return NopPruner()
