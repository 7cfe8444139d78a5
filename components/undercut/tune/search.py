"""Search hyperparameters of fine-tuning: the defaults first, then what promises more, within a budget."""

import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, events, workspace
from undercut.base_models import find_base, longest_text
from undercut.costs import LIMITS
from undercut.errors import ConfigurationError
from undercut.tune.no_search import no_search
from undercut.tune.outcome import outcome
from undercut.tune.settings import TuneConfig
from undercut.tune.studies import opened, server_url
from undercut.tune.trials import (
    CLAIMED,
    Material,
    OutOfTime,
    SurplusTrial,
    check_adapters,
    objective,
    prepare,
    remaining_seconds,
    take_up,
)

POLL_SECONDS = 1.0
# What may change while a search goes on: how much of it there is, and where it is kept.
CHANGING = (*LIMITS, "trials", "study_url")


def tune(data: Path, output: Path, config: TuneConfig, base: Path | None = None) -> dict[str, Any]:
    """Search, seal a tuning folder and return the best hyperparameters, never worse than the defaults.

    Args:
        data: dataset folder with ``train`` and ``validation``.
        output: where ``tuning.json`` goes: every trial with its curve, the gain, what it cost.
        config: settings.
        base: the base as transfer or pretrain made it; it stands before ``config.base_model``.

    Returns:
        ``learning_rate``, ``epochs`` and ``batch_tokens``, and ``method`` if adapters were tried: the defaults
        unless a trial beat them on the validation rows. Nothing if no search was asked for.

    Raises:
        ConfigurationError: the base model cannot be read or does not go with a method, the study's database
            does not answer, or another process runs the same search on SQLite.
    """
    if not config.trials:
        return no_search(data, output, config, base)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    content = _searched(data, artifacts.load(data, artifacts.DATASET), config, base)
    output.mkdir(parents=True, exist_ok=True)
    artifacts.seal(output, artifacts.TUNING, content)
    events.message(content["sentence"])
    hyperparameters: dict[str, Any] = content["hyperparameters"]
    return hyperparameters


def _searched(data: Path, card: artifacts.Manifest, config: TuneConfig, made: Path | None) -> dict[str, Any]:
    base, base_model = find_base(config.base_model, made)
    rate, max_length = config.defaults["learning_rate"], longest_text(base, config.max_length)
    config = replace(config, learning_rate=rate, methods=",".join(config.searched_methods), max_length=max_length)
    if "prefix" in config.searched_methods and "structure" in base_model:
        raise ConfigurationError("methods", "prefix", f"any other on a base that is {base_model['structure']}")
    check_adapters(base, card["labels"], config)
    events.parameters(asdict(config))
    name = study_name(card["digest"], base_model["digest"], config)
    folder = workspace.home() / "studies" / name
    with opened(name, folder, config) as study:
        material = prepare(data, base, config, folder)
        stopped_by = search(study, material, config)
        trials = study.get_trials()
        content = outcome(study, trials, len(material.held.labels), config)
    return content | {
        "stopped_by": stopped_by,
        "study": {"name": name, "storage": "postgresql" if server_url(config.study_url) else "sqlite"},
        "dataset": card["digest"],
        "base_model": base_model,
        "train_rows": len(material.train.labels),
    }


def study_name(data: str, base: str, config: TuneConfig) -> str:
    """Return the study's name: data, base, then all that decides a trial's outcome.

    Args:
        data: the dataset's digest.
        base: the base model's digest.
        config: settings; limits do not enter, so that a search can be extended.
    """
    settings = {k: v for k, v in asdict(config).items() if k not in CHANGING}
    code = workspace.code_digest()
    key = checkpoints.content_key(settings=settings, code=code, torch=torch.__version__)
    return f"{data[:12]}-{base[:12]}-{key[:16]}"


def search(study: Study, material: Material, config: TuneConfig) -> str:
    """Run trials until their number, the time or the money is used up; returns which of them it was."""
    take_up(study, config)
    exhausted = False
    while True:
        trials = study.get_trials(deepcopy=False)
        full = sum(t.state in CLAIMED for t in trials) >= config.trials
        if full or exhausted or remaining_seconds(study, config) <= 0:
            if all(t.state is not TrialState.RUNNING for t in trials):
                return "trials" if full else "budget_usd" if _money_is_tighter(config) else "max_seconds"
            _wait_for_others(study)
            continue
        try:
            study.optimize(lambda t: objective(t, study, material, config), n_trials=1, catch=(SurplusTrial,))
        except OutOfTime:
            exhausted = True


def _wait_for_others(study: Study) -> None:
    """Wait for other workers' trials; those of a dead one are failed here, to be tried again."""
    time.sleep(POLL_SECONDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _money_is_tighter(config: TuneConfig) -> bool:
    return bool(config.budget_usd) and config.allowance_seconds != config.max_seconds
