"""Which hyperparameters a trial gets: the defaults first, then those of TPE, the same for the same seed.

TPE (Bergstra et al. 2011) models good and bad trials apart and proposes where the ratio of their
densities is highest. Optuna's sampler draws from one random state a process, so that a resumed
search would repeat what it had drawn. Here each trial has a random state of its own, made from the
seed and the trial's number, in which a second attempt does not count: a search interrupted and resumed
proposes what it would have proposed.
"""

from collections.abc import Mapping
from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from undercut.tune.attempts import position
from undercut.tune.halving import SuccessiveHalving
from undercut.tune.settings import SEARCHED, TuneConfig, rate_scale

RANDOM_TRIALS = 5


class SeededSampler(BaseSampler):
    """The defaults for trial 0, random points for the next four, then TPE."""

    def __init__(self, config: TuneConfig) -> None:
        self._config = config

    def _seed(self, study: Study, trial: FrozenTrial) -> int:
        return self._config.seed * 1_000_003 + position(study.get_trials(deepcopy=False), trial)

    def _tpe(self, study: Study, trial: FrozenTrial) -> TPESampler:
        seed = self._seed(study, trial) % 2**32
        return TPESampler(n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is sampled together: nothing for the defaults."""
        return {} if trial.number == 0 else self._tpe(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample the parameters of ``search_space`` together."""
        return self._tpe(study, trial).sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one parameter: its default in trial 0, otherwise at random."""
        if trial.number == 0:
            return first(self._config)[param_name]
        # A state of its own for each name: one state would give all parameters the same quantile.
        index = SEARCHED.index(param_name) if param_name in SEARCHED else 2**31
        seed = self._seed(study, trial) * len(SEARCHED) + index
        return RandomSampler(seed=seed % 2**32).sample_independent(study, trial, param_name, param_distribution)


def suggest(trial: Trial, config: TuneConfig) -> dict[str, Any]:
    """Return a trial's hyperparameters; a further one is a further line, a field and a use in ``trials``.

    One learning rate is sampled for all methods, as that of full fine-tuning, and multiplied by the method's
    scale. So what one method's trials tell (twice the default is better) counts for all: a range for each
    method would share a dozen trials out among as many searches.
    """
    if len(config.searched_methods) > 1:
        trial.suggest_categorical("method", config.searched_methods)
    trial.suggest_float("learning_rate", config.learning_rate_low, config.learning_rate_high, log=True)
    trial.suggest_int("epochs", config.epochs_low, config.epochs_high)
    trial.suggest_int("batch_tokens", config.batch_tokens_low, config.batch_tokens_high, log=True)
    return hyperparameters(trial.params, config)


def hyperparameters(params: Mapping[str, Any], config: TuneConfig) -> dict[str, Any]:
    """Return what a trial trains with, out of the parameters that the study keeps of it."""
    found = {"method": config.method, **params}
    scale = rate_scale(found["method"])
    if "learning_rate" in found and scale != 1:
        # Fifteen digits: divided and multiplied again, the default would end in another bit.
        found["learning_rate"] = float(f"{found['learning_rate'] * scale:.15g}")
    return {name: found[name] for name in config.defaults if name in found}


def first(config: TuneConfig) -> dict[str, Any]:
    """Return the parameters that the study keeps of the defaults."""
    defaults = {"method": config.method, **config.defaults}
    low, high = config.learning_rate_low, config.learning_rate_high
    rate = defaults["learning_rate"] / rate_scale(config.method)
    return defaults | {"learning_rate": min(max(rate, low), high)}


def pruner(config: TuneConfig) -> BasePruner:
    """Return the rule that ends a trial early; its resource is the epoch.

    Hyperband (Li et al. 2018) runs several ladders such as that of successive halving, Optuna's.
    """
    match config.pruner:
        case "successive-halving":
            return SuccessiveHalving(config.reduction_factor)
        case "hyperband":
            return HyperbandPruner(
                min_resource=1, max_resource=config.epochs_high, reduction_factor=config.reduction_factor
            )
        case _:
            return NopPruner()
