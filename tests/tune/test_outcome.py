import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from undercut.tune.outcome import best, outcome
from undercut.tune.settings import TuneConfig
from undercut.tune.trials import packed

SPACE = {
    "learning_rate": FloatDistribution(3e-5, 3e-3, log=True),
    "epochs": IntDistribution(2, 10),
    "batch_tokens": IntDistribution(256, 4096, log=True),
}


def trial(right: int, loss: float, metric: str = "accuracy", **attributes: int) -> FrozenTrial:
    """A finished trial that gets the first ``right`` of 100 rows right."""
    point = {"epoch": 1, "step": 1, "train_loss": 1.0, "validation_loss": loss, "validation_accuracy": right / 100}
    return optuna.create_trial(
        value=point[f"validation_{metric}"],
        params={"learning_rate": 1e-4, "epochs": 2 + right % 5, "batch_tokens": 512},
        distributions=SPACE,
        user_attrs={
            "curve": [point],
            "best_epoch": 1,
            "correct": packed(np.arange(100) < right),
            "seconds": 36.0,
            **attributes,
        },
    )


def study_of(trials: list[FrozenTrial], config: TuneConfig) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=config.direction)
    study.add_trials(trials)
    return study


@pytest.mark.parametrize(
    ("others", "number"),
    [
        ([(80, 0.1)], 0),
        ([(79, 0.1), (70, 0.1)], 0),
        ([(81, 0.9), (79, 0.1)], 1),
        ([(85, 0.5), (85, 0.4), (85, 0.4)], 2),
    ],
)
def test_what_does_not_beat_the_defaults_loses_to_them(others: list[tuple[int, float]], number: int) -> None:
    config = TuneConfig()
    trials = study_of([trial(80, 0.5), *(trial(*other) for other in others)], config).trials
    winner = best(trials, trials[0], config)
    assert winner is trials[number]


def test_the_loss_may_be_what_counts() -> None:
    config = TuneConfig(metric="loss")
    trials = study_of([trial(80, 0.5, "loss"), trial(90, 0.6, "loss"), trial(78, 0.4, "loss")], config).trials
    assert best(trials, trials[0], config) is trials[2]


def test_the_gain_is_paired_and_the_price_known() -> None:
    config = TuneConfig(usd_per_hour=1.0)
    study = study_of([trial(80, 0.5), trial(90, 0.6), trial(70, 0.6), trial(60, 0.6)], config)
    found = outcome(study, study.trials, 100, config)
    gain = found["gain"]
    assert (gain["value"], gain["n"]) == (pytest.approx(0.1), 100)
    assert gain["low"] == pytest.approx(0.05, abs=0.015)
    assert gain["high"] == pytest.approx(0.16, abs=0.015)
    assert found["cost_usd"] == pytest.approx(0.04)
    assert sum(found["importances"].values()) == pytest.approx(1)
    assert found["sentence"].startswith(
        "4 trials took 144 s and $0.04: validation accuracy 0.800 with the defaults, 0.900 with trial 2, a gain of +10.0"
    )
    cheap = outcome(study, study.trials, 100, TuneConfig(usd_per_hour=0.001))
    assert "144 s and $0.000040:" in cheap["sentence"], "no exponents for people"


def test_the_method_is_part_of_the_answer_where_it_was_searched() -> None:
    config = TuneConfig(methods="lora")
    methods = CategoricalDistribution(("full", "lora"))
    trials = [trial(80, 0.5), trial(90, 0.6), trial(70, 0.6), trial(60, 0.6)]
    for t, method in zip(trials, ("full", "lora", "lora", "full"), strict=True):
        t.params = {"method": method, **t.params}
        t.distributions = {"method": methods, **t.distributions}
    study = study_of(trials, config)
    found = outcome(study, study.trials, 100, config)
    assert found["hyperparameters"] == {
        "method": "lora",
        "learning_rate": pytest.approx(1e-4 / 3e-4 * 5e-3),
        "epochs": 2,
        "batch_tokens": 512,
    }
    assert [t["parameters"]["learning_rate"] for t in found["trials"][::3]] == [1e-4, 1e-4]
    assert found["learning_rate_ranges"] == {"full": [3e-5, 3e-3], "lora": [pytest.approx(5e-4), pytest.approx(5e-2)]}
    assert set(found["importances"]) == {"method", "learning_rate", "epochs", "batch_tokens"}
    assert "with trial 2 (lora), a gain of" in found["sentence"]


def test_defaults_that_were_tried_again_are_still_the_defaults() -> None:
    config = TuneConfig()
    left = optuna.create_trial(state=TrialState.FAIL, params=trial(80, 0.5).params, distributions=SPACE)
    study = study_of([left, trial(70, 0.7), trial(80, 0.5, retry_of=0)], config)
    found = outcome(study, study.trials, 100, config)
    assert (found["default_trial"], found["best_trial"], found["trials"][2]["retry_of"]) == (2, 2, 0)
    assert "nothing beats the defaults" in found["sentence"]
