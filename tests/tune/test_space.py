import math
from typing import Any

import optuna
import pytest
from undercut.tune.settings import TuneConfig
from undercut.tune.space import SeededSampler, pruner, suggest


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


def test_it_finds_the_bottom_of_a_bowl() -> None:
    found = drawn(TuneConfig(seed=1), [40])[20:]
    near = [abs(math.log10(t["learning_rate"]) + 3) < 0.3 for t in found]
    assert sum(near) >= 12


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("successive-halving", optuna.pruners.SuccessiveHalvingPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_the_pruner_is_the_one_asked_for(name: str, kind: type) -> None:
    assert isinstance(pruner(TuneConfig(pruner=name)), kind)
