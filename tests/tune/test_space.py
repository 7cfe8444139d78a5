import math
from typing import Any

import optuna
import pytest
from undercut.adapter_settings import LEARNING_RATES
from undercut.tune.halving import SuccessiveHalving
from undercut.tune.settings import TuneConfig
from undercut.tune.space import SeededSampler, first, hyperparameters, pruner, suggest


def drawn(config: TuneConfig, sessions: list[int]) -> list[dict[str, Any]]:
    """Search a bowl around a learning rate of 1e-3 and 8 epochs, in one session or several."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.InMemoryStorage()

    def bowl(trial: optuna.Trial) -> float:
        p = suggest(trial, config)
        return -abs(math.log10(p["learning_rate"]) + 3) - abs(p["epochs"] - 8) / 10

    for trials in sessions:
        study = optuna.create_study(
            study_name="bowl", storage=storage, sampler=SeededSampler(config), direction="maximize", load_if_exists=True
        )
        study.optimize(bowl, n_trials=trials)
    return [t.params for t in study.trials]


def test_the_defaults_come_first_and_the_rest_is_in_range() -> None:
    config = TuneConfig()
    trials = drawn(config, [12])
    assert trials[0] == config.defaults
    assert trials[1] == {"learning_rate": pytest.approx(3.7907e-4, rel=1e-4), "epochs": 10, "batch_tokens": 473}
    assert all(3e-5 <= t["learning_rate"] <= 3e-3 and 2 <= t["epochs"] <= 10 for t in trials)
    assert len({t["learning_rate"] for t in trials}) == 12


def test_a_resumed_search_proposes_what_it_would_have_proposed() -> None:
    config = TuneConfig(seed=5)
    assert drawn(config, [12]) == drawn(config, [3, 1, 8])
    assert drawn(config, [6]) != drawn(TuneConfig(seed=6), [6])


def test_the_method_is_searched_and_has_rates_of_its_own() -> None:
    config = TuneConfig(methods="lora,prefix", seed=2)
    trials = [hyperparameters(params, config) for params in drawn(config, [16])]
    assert trials[0] == config.defaults
    assert {t["method"] for t in trials} == {"full", "lora", "prefix"}
    assert list(trials[1]) == ["method", "learning_rate", "epochs", "batch_tokens"]
    for t in trials:
        assert LEARNING_RATES[t["method"]] / 10.01 <= t["learning_rate"] <= LEARNING_RATES[t["method"]] * 10.01
    assert drawn(config, [16]) == drawn(config, [2, 9, 5])


@pytest.mark.parametrize(("method", "rate"), [(m, r) for m in LEARNING_RATES for r in (0.0, 2.7e-3)])
def test_the_defaults_keep_their_last_bit(method: str, rate: float) -> None:
    config = TuneConfig(method=method, learning_rate=rate, learning_rate_low=1e-6)
    assert hyperparameters(first(config), config) == config.defaults
    assert config.defaults["learning_rate"] == (rate or LEARNING_RATES[method])


def test_of_a_trial_that_ended_while_it_was_proposed_the_part_is_told() -> None:
    assert hyperparameters({"method": "lora"}, TuneConfig(methods="lora")) == {"method": "lora"}
    assert hyperparameters({"learning_rate": 3e-4}, TuneConfig(method="lora")) == {
        "method": "lora",
        "learning_rate": 5e-3,
    }


def test_it_finds_the_bottom_of_a_bowl() -> None:
    found = drawn(TuneConfig(seed=1), [40])[20:]
    near = [abs(math.log10(t["learning_rate"]) + 3) < 0.3 for t in found]
    assert sum(near) >= 12


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("successive-halving", SuccessiveHalving),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_the_pruner_is_the_one_asked_for(name: str, kind: type) -> None:
    assert isinstance(pruner(TuneConfig(pruner=name)), kind)


@pytest.mark.parametrize("name", ["successive-halving", "hyperband"])
def test_trials_that_promise_little_end_early(name: str) -> None:
    """Each trial climbs by its learning rate; at every epoch the slow ones may be ended."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = TuneConfig(pruner=name)

    def climb(trial: optuna.Trial) -> float:
        rate = suggest(trial, config)["learning_rate"]
        for epoch in range(1, config.epochs_high + 1):
            trial.report(rate * epoch, step=epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return rate * config.epochs_high

    study = optuna.create_study(
        study_name="climb", sampler=SeededSampler(config), pruner=pruner(config), direction="maximize"
    )
    study.optimize(climb, n_trials=16)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    assert 4 <= len(pruned) <= 13
    fastest = max(t.params["learning_rate"] for t in study.trials)
    assert study.best_params["learning_rate"] == fastest
