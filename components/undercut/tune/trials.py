"""One trial: train with its hyperparameters, report each epoch, stop early where it is not worth more."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study, Trial, TrialPruned
from optuna.trial import FrozenTrial, TrialState

from undercut import artifacts, checkpoints, events
from undercut.adapters import attach
from undercut.classifiers import classification_task, correct_rows, load_base, train_classifier
from undercut.fitting import FitConfig
from undercut.label_sets import strata
from undercut.tasks.protocol import Encoded, Task
from undercut.training import LoopConfig
from undercut.tune.attempts import origin, repeats
from undercut.tune.settings import TuneConfig
from undercut.tune.space import suggest
from undercut.tune.studies import keep, waiting

CLAIMED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class SurplusTrial(Exception):
    """Another worker has claimed the last trial meanwhile."""


class OutOfTime(Exception):
    """The time or the money ended in the middle of a trial, which then says nothing."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every trial trains and is judged on; ``checkpoints`` holds one folder a trial."""

    base: Path
    labels: Sequence[str]
    task: Task
    train: Encoded
    held: Encoded
    checkpoints: Path


def prepare(data: Path, base: Path, config: TuneConfig, folder: Path) -> Material:
    """Tokenise the training rows (all, or ``train_rows`` of them) and the validation rows."""
    labels = artifacts.load(data, artifacts.DATASET)["labels"]
    texts, label_ids = artifacts.texts_and_labels(data, "train")
    chosen = subset(strata(label_ids), config.train_rows, config.seed)
    task = classification_task(base, config.max_length, label_ids[chosen], len(labels), config.class_weights)
    held_texts, held_ids = artifacts.texts_and_labels(data, "validation")
    return Material(
        base=base,
        labels=labels,
        task=task,
        train=task.encode([texts[i] for i in chosen], label_ids[chosen]),
        held=task.encode(held_texts, held_ids),
        checkpoints=folder,
    )


def check_adapters(base: Path, labels: Sequence[str], config: TuneConfig) -> None:
    """Put each method's adapter on the base once, so that what does not fit is refused before the first trial.

    Raises:
        ConfigurationError: the architecture takes no such adapter, or has too few positions for the prefix.
    """
    for method in config.searched_methods:
        if method != "full":
            attach(load_base(base, labels, config.seed, False), config.adapter(method), 10, config.max_length)


def subset(labels: NDArray[np.int64], rows: int, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of ``rows`` rows (0: all), each label in its share and once at least."""
    if not 0 < rows < len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    # A row's rank within its label, as a share of that label: the lowest ranks are a stratified sample.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members)) / len(members)
    return np.sort(np.argsort(rank, kind="stable")[:rows])


def objective(trial: Trial, study: Study, material: Material, config: TuneConfig) -> float:
    """Run a trial and return its figure on the validation rows, at the epoch with the lowest loss.

    Raises:
        SurplusTrial: another worker was faster.
        TrialPruned: it was stopped early.
        OutOfTime: the time or the money ended.
    """
    earlier = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number and t.state in CLAIMED]
    if len(earlier) >= config.trials:
        raise SurplusTrial
    parameters = suggest(trial, config)
    first = int(trial.user_attrs.get("retry_of", trial.number))
    keep(material.checkpoints, config)
    shown = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in parameters.items())
    events.message(f"trial {trial.number + 1} of {config.trials}{' (the defaults)' if first == 0 else ''}: {shown}")
    with events.part(len(earlier), config.trials, f"trial-{trial.number}"):
        return _train(trial, first, parameters, study, material, config)


def _train(
    trial: Trial, first: int, parameters: dict[str, Any], study: Study, material: Material, config: TuneConfig
) -> float:
    started, pruned = time.monotonic(), False
    sign = -1 if config.metric == "accuracy" else 1

    def watch(curve: Sequence[dict[str, Any]]) -> bool:
        nonlocal pruned
        # From the checkpoint of a trial that was left behind, the first report brings several epochs.
        for point in curve[len(trial.user_attrs.get("curve", [])) :]:
            # The loss also where accuracy is what counts: in the first epochs accuracy is often that of
            # guessing, and its order chance, while the loss already tells which trial learns.
            trial.report(sign * point["validation_loss"], step=point["epoch"])
            pruned = trial.should_prune()
        trial.set_user_attr("curve", list(curve))
        trial.set_user_attr("seconds", time.monotonic() - started)
        # Never the defaults, which all others are compared with; nor what has come to its end.
        pruned = pruned and first != 0 and len(curve) < parameters["epochs"]
        return not pruned

    loop = LoopConfig(
        epochs=parameters["epochs"],
        learning_rate=parameters["learning_rate"],
        checkpoint_seconds=config.checkpoint_seconds,
        max_seconds=share_of_time(study, config),
        seed=config.seed,
    )
    fitting = FitConfig(loop=loop, batch_tokens=parameters["batch_tokens"], patience=config.patience)
    folder = material.checkpoints / f"trial-{first}"
    with checkpoints.locked(folder):
        model, result = train_classifier(
            material.base, material.labels, material.task, material.train, material.held, fitting, folder,
            config.train_embeddings, watch, config.adapter(parameters.get("method", "full")), config.max_length,
        )  # fmt: skip
        checkpoints.remove(folder)
    out_of_time = result.stopped_by == "max_seconds"
    trial.set_user_attr("stopped_by", "pruner" if pruned and not out_of_time else result.stopped_by)
    if out_of_time:
        raise OutOfTime
    if pruned:
        raise TrialPruned
    trial.set_user_attr("best_epoch", result.best_epoch)
    trial.set_user_attr("correct", packed(correct_rows(model, material.task, material.held)))
    trial.set_user_attr("seconds", time.monotonic() - started)
    return float(result.curve[result.best_epoch - 1][f"validation_{config.metric}"])


def packed(correct: NDArray[np.bool_]) -> str:
    """Return one bit a row as text, which a study keeps: 840 characters for 5,000 rows."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpacked(text: str, rows: int) -> NDArray[np.bool_]:
    """Return what :func:`packed` packed, shape (rows,)."""
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=rows).astype(np.bool_)


def seconds(trial: FrozenTrial) -> float:
    """Return the seconds that a trial took; of one that runs or was left behind, as far as known."""
    if trial.state is TrialState.RUNNING and trial.datetime_start is not None:
        return (datetime.now() - trial.datetime_start).total_seconds()
    return float(trial.user_attrs.get("seconds", 0.0))


def share_of_time(study: Study, config: TuneConfig) -> float:
    """Return the seconds that a trial starting now may take: 0 for no limit, otherwise more than 0.

    What is left of the whole, divided among the workers that train now.
    """
    if not config.allowance_seconds:
        return 0.0
    running = sum(t.state is TrialState.RUNNING for t in study.get_trials(deepcopy=False))
    return max(remaining_seconds(study, config) / max(running, 1), 1e-3)


def remaining_seconds(study: Study, config: TuneConfig) -> float:
    """Return what is left of the seconds that time and money allow, summed over all workers."""
    if not config.allowance_seconds:
        return float("inf")
    return config.allowance_seconds - sum(seconds(trial) for trial in study.get_trials(deepcopy=False))


def take_up(study: Study, config: TuneConfig) -> None:
    """Try again what an earlier search with less time or money could not finish, if there is more now."""
    if remaining_seconds(study, config) <= 0:
        return
    trials = study.get_trials()
    for trial in trials:
        if trial.user_attrs.get("stopped_by") == "max_seconds" and trial is repeats(trials, origin(trial))[-1]:
            study.add_trial(waiting(trial))
