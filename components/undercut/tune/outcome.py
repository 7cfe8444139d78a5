"""What a search found: the best trial against the defaults, and every trial for the report."""

import math
from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from undercut.intervals import paired_difference
from undercut.tune.attempts import origin, repeats
from undercut.tune.no_search import no_trials
from undercut.tune.settings import TuneConfig
from undercut.tune.space import hyperparameters
from undercut.tune.trials import seconds, unpacked
from undercut.wording import money

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def outcome(study: Study, trials: Sequence[FrozenTrial], rows: int, config: TuneConfig) -> dict[str, Any]:
    """Return the content of ``tuning.json``.

    Args:
        study: the finished study.
        trials: its trials.
        rows: validation rows.
        config: settings.

    Returns:
        ``hyperparameters`` (of the best trial if it beat the defaults, otherwise the defaults),
        ``defaults``, ``best_trial`` and ``default_trial`` (numbers or None), ``gain`` (validation
        accuracy over the defaults, paired, with its interval; None if the defaults did not finish),
        ``trials``, ``importances``, ``seconds``, ``cost_usd`` and ``sentence``. ``ranges`` holds the learning
        rates of the defaults' method, ``learning_rate_ranges`` those of each.
    """
    kept = [t for t in trials if t.params]
    finished = [t for t in kept if t.state is TrialState.COMPLETE]
    default = next((t for t in repeats(finished, 0)), None)
    winner = best(finished, default, config)
    spent = sum(seconds(t) for t in kept)
    gain = None if winner is None or default is None else _gain(winner, default, rows)
    content = no_trials(rows, config) | {
        "hyperparameters": hyperparameters(winner.params, config) if winner else config.defaults,
        "best_trial": winner.number if winner else None,
        "default_trial": default.number if default else None,
        "gain": gain,
        "trials": [_row(t, config) for t in kept],
        "importances": importances(study, finished),
        "seconds": spent,
        "cost_usd": _usd(spent, config),
    }
    return content | {"sentence": _sentence(content, winner, default, config)}


def best(finished: Sequence[FrozenTrial], default: FrozenTrial | None, config: TuneConfig) -> FrozenTrial | None:
    """Return the best trial: the defaults unless another is better; None if the defaults did not finish.

    Of equal figures the defaults win, then the lower loss, then the earlier trial.
    """
    if default is None:
        return None
    sign = -1 if config.metric == "accuracy" else 1

    def rank(trial: FrozenTrial) -> tuple[float, bool, float, int]:
        return sign * (trial.value or 0.0), trial is not default, point(trial)["validation_loss"], trial.number

    return min(finished, key=rank)


def point(trial: FrozenTrial) -> dict[str, Any]:
    """Return a finished trial's figures at the epoch whose weights were kept."""
    found: dict[str, Any] = trial.user_attrs["curve"][trial.user_attrs["best_epoch"] - 1]
    return found


def _gain(winner: FrozenTrial, default: FrozenTrial, rows: int) -> dict[str, Any]:
    first, second = (unpacked(t.user_attrs["correct"], rows) for t in (winner, default))
    loss = point(winner)["validation_loss"] - point(default)["validation_loss"]
    return {**paired_difference(first, second).as_dict(), "n": rows, "confidence": 0.95, "loss": loss}


def _row(trial: FrozenTrial, config: TuneConfig) -> dict[str, Any]:
    complete = trial.state is TrialState.COMPLETE
    curve = trial.user_attrs.get("curve", [])
    out_of_time = trial.user_attrs.get("stopped_by") == "max_seconds"
    return {
        "number": trial.number,
        "state": "out of time" if out_of_time else STATES[trial.state],
        "parameters": hyperparameters(trial.params, config),
        "value": trial.value if complete else None,
        "best_epoch": trial.user_attrs["best_epoch"] if complete else None,
        "accuracy": point(trial)["validation_accuracy"] if complete else None,
        "loss": point(trial)["validation_loss"] if complete else None,
        "curve": curve,
        "epochs": len(curve),
        "stopped_by": trial.user_attrs.get("stopped_by", ""),
        "retry_of": origin(trial) if origin(trial) != trial.number else None,
        "seconds": seconds(trial),
        "usd": _usd(seconds(trial), config),
    }


def _usd(seconds_used: float, config: TuneConfig) -> float | None:
    return seconds_used / 3600 * config.usd_per_hour if config.usd_per_hour else None


def importances(study: Study, finished: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return each hyperparameter's importance, sum 1; empty if too few trials finished to tell.

    PED-ANOVA (Watanabe et al. 2023), Optuna's default: how far the good trials' values differ from all.
    """
    if len(finished) < 4 or len({t.value for t in finished}) < 2:
        return {}
    found = get_param_importances(study, params=list(finished[0].params))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _sentence(
    content: dict[str, Any], winner: FrozenTrial | None, default: FrozenTrial | None, config: TuneConfig
) -> str:
    """Say in a sentence what was bought, and for what."""
    price = "" if content["cost_usd"] is None else f" and {money(content['cost_usd'])}"
    spent = f"{len(content['trials'])} trials took {content['seconds']:.0f} s{price}"
    if winner is None or default is None:
        return f"{spent}: too little for the defaults to finish, so the defaults it is."
    accuracy = point(default)["validation_accuracy"]
    if winner is default:
        return f"{spent}: nothing beats the defaults (validation accuracy {accuracy:.3f})."
    gain = content["gain"]
    method = f" ({winner.params['method']})" if len(config.searched_methods) > 1 else ""
    return (
        f"{spent}: validation accuracy {accuracy:.3f} with the defaults, {point(winner)['validation_accuracy']:.3f} "
        f"with trial {winner.number + 1}{method}, a gain of {gain['value'] * 100:+.1f} points "
        f"({gain['low'] * 100:+.1f} to {gain['high'] * 100:+.1f}) on {gain['n']:,} rows; chosen on these rows, so "
        "rather less on others."
    )
