import math

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from undercut.tune.halving import SuccessiveHalving


def study_of(curves: list[list[float]], direction: str = "maximize", **last: int) -> optuna.Study:
    """A study of trials with these figures at epochs 1, 2, …; ``last`` are attributes of the last."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction)
    for i, curve in enumerate(curves):
        study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL if i < len(curves) - 1 else TrialState.RUNNING,
                intermediate_values=dict(enumerate(curve, start=1)),
                user_attrs=last if i == len(curves) - 1 else {},
            )
        )
    return study


def stops(curves: list[list[float]], factor: int = 2, direction: str = "maximize", **last: int) -> bool:
    study = study_of(curves, direction, **last)
    trial: FrozenTrial = study.get_trials()[-1]
    return SuccessiveHalving(factor).prune(study, trial)


def test_rungs_are_powers_of_the_factor() -> None:
    assert [e for e in range(1, 20) if SuccessiveHalving(2).is_rung(e)] == [1, 2, 4, 8, 16]
    assert [e for e in range(1, 28) if SuccessiveHalving(3).is_rung(e)] == [1, 3, 9, 27]


@pytest.mark.parametrize(
    ("value", "factor", "stopped"),
    [(0.55, 2, False), (0.35, 2, True), (0.40, 2, False), (0.45, 3, True), (0.55, 3, False), (0.1, 2, True)],
)
def test_the_best_of_those_that_came_go_on(value: float, factor: int, stopped: bool) -> None:
    """Five before it at 0.2 to 0.6: of six the best three, or two."""
    assert stops([[0.2], [0.3], [0.4], [0.5], [0.6], [value]], factor) == stopped


def test_a_lower_loss_is_better() -> None:
    assert stops([[2.0], [3.0], [2.5]], direction="minimize")
    assert not stops([[2.0], [3.0], [1.5]], direction="minimize")


def test_the_first_goes_on_and_the_second_if_it_is_better() -> None:
    assert not stops([[0.1]])
    assert stops([[0.2], [0.1]])
    assert not stops([[0.1], [0.2]])


def test_between_rungs_nothing_is_stopped_and_a_rung_compares_that_epoch() -> None:
    assert not stops([[0.9, 0.9, 0.9], [0.1, 0.2, 0.3]])
    assert stops([[0.1, 0.9], [0.5, 0.6]])
    assert not stops([[0.9, 0.1], [0.5, 0.6]])


def test_a_loss_that_is_no_number_ends_it() -> None:
    assert stops([[math.nan]])


def test_a_trial_tried_again_counts_once() -> None:
    """The last repeats the first, which had got as far: three trials and not four."""
    assert not stops([[0.5], [0.6], [0.3], [0.6]], factor=3, retry_of=0)
    assert stops([[0.5], [0.6], [0.7], [0.5]], factor=2, retry_of=0)
    assert not stops([[0.5], [0.4], [0.3], [0.5]], factor=4, retry_of=0)
    assert not stops([[0.9], [0.4], [0.3], [0.5]], factor=3, retry_of=0), "its own first attempt is no rival"
