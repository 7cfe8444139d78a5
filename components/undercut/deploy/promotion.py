"""Whether the challenger takes the champion's place, and the move itself.

The rule, on the same test rows, paired: the challenger is significantly better, or it is cheaper and
not inferior (the difference's lower end above minus the margin). It has passed the bar before it
comes here. Prices of two runs do not compare, so both models are timed here, in turns.

Where a source grows, a row that the champion learnt from may be among the test rows. Such rows flatter the
champion, and a challenger that goes on from it: they are left out.

Where the label sets differ, answers are compared by label name over this run's test rows: a row
whose label a model does not know counts as its mistake.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts, companions, events, registry, workspace
from undercut.deploy.notes import label_note, left_out_note
from undercut.deploy.settings import DeployConfig
from undercut.deploy.stages import report
from undercut.deploy.targets import Rollout
from undercut.intervals import paired_difference
from undercut.label_sets import is_multi_label, predicted
from undercut.predictors import Predictor, load_predictor
from undercut.samples import key

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 32
ROUNDS = 5
TIMED_TEXTS = 64
ATTEMPTS = 3
LOCK_SECONDS = 600.0


class PromotionError(RuntimeError):
    """The alias could not be moved; the registry says what it names now."""


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """The version that wants the alias, with what it is compared on.

    ``batch`` is the batch size that the recipe's traffic stands for.
    """

    version: registry.Version
    predictor: Predictor
    data: Path
    batch: int


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What came of it: ``moved``, why, the champion before, and the comparison (None: nothing to compare).

    ``rollout`` is what the target did (None: it was not asked).
    """

    moved: bool
    reason: str
    before: registry.Version | None
    comparison: dict[str, Any] | None = None
    rollout: Rollout | None = None


def promote(
    client: "MlflowClient",
    challenger: Challenger,
    config: DeployConfig,
    serve: Callable[[], Rollout] = Rollout,
) -> Promotion:
    """Compare with the champion; if the rule says so, have the challenger served and move the alias.

    Args:
        client: of the registry.
        challenger: the version, and what it is compared on.
        config: the rule's settings.
        serve: has the challenger served, before the alias moves; also asked where the champion is this model.

    The registry has no compare-and-set: other deployments of this machine wait for a lock, and the
    alias is read again right before and after the move.

    Raises:
        PromotionError: another machine keeps moving the alias, or moved it after this one.
        ConfigurationError: the champion's folder was tampered with.
    """
    name, number = challenger.version.name, challenger.version.number
    with _lock(workspace.home() / "locks" / f"promote-{name}"):
        for _ in range(ATTEMPTS):
            before = registry.by_alias(client, name, registry.CHAMPION)
            verdict = _decide(client, challenger, before, config)
            same = before is not None and before.digest == challenger.version.digest
            if not verdict.moved and not same:
                return verdict
            if _moved_since(client, name, before):
                events.message("another deployment moved the champion meanwhile: comparing again")
                continue
            verdict = _served(verdict, serve())
            if not verdict.moved:
                return verdict
            if _moved_since(client, name, before):
                raise PromotionError(f"version {number} is served, but another deployment moved the alias meanwhile")
            client.set_registered_model_alias(name, registry.CHAMPION, number)
            if _number(registry.by_alias(client, name, registry.CHAMPION)) != number:
                raise PromotionError(f"version {number} was made champion, then another deployment moved the alias")
            return verdict
    raise PromotionError(f"another deployment moved the champion {ATTEMPTS} times during the comparison; run again")


def _moved_since(client: "MlflowClient", name: str, before: registry.Version | None) -> bool:
    return _number(registry.by_alias(client, name, registry.CHAMPION)) != _number(before)


def _served(verdict: Promotion, rollout: Rollout) -> Promotion:
    if rollout.serving:
        return replace(verdict, rollout=rollout)
    return replace(verdict, rollout=rollout, moved=False, reason=f"Rolled back: {rollout.rollback}. {verdict.reason}")


def _number(version: registry.Version | None) -> str:
    return version.number if version else ""


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with path.open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise PromotionError(f"another deployment has held {path} for {LOCK_SECONDS:.0f} s") from error
                time.sleep(0.1)
        yield


def _decide(
    client: "MlflowClient", challenger: Challenger, champion: registry.Version | None, config: DeployConfig
) -> Promotion:
    if champion is None:
        return Promotion(moved=True, reason="the first champion", before=None)
    if champion.digest == challenger.version.digest:
        return Promotion(moved=False, reason="the champion already is this model: nothing to promote", before=champion)
    rival = load_predictor(registry.fetch(client, champion), 1, champion.digest)
    comparison = compare(challenger, rival, config, companions.learnt(client, champion))
    if comparison is None:
        reason = f"Against version {champion.number}: nothing to compare on, it learnt from every test row."
        return Promotion(moved=False, reason=reason, before=champion)
    moved, sentence = judge(comparison, config)
    note = label_note(challenger.predictor.labels, rival.labels)
    reason = f"Against version {champion.number}: {sentence}{left_out_note(comparison['left_out'])}{note}"
    return Promotion(moved=moved, reason=reason, before=champion, comparison=comparison)


def compare(
    challenger: Challenger, champion: Predictor, config: DeployConfig, learnt: frozenset[int]
) -> dict[str, Any] | None:
    """Compare both on the data's test rows, but for those whose keys are in ``learnt``.

    Returns:
        None where no row is left. ``rows``; ``left_out`` (rows); ``accuracy`` of each (of several labels a row, all
        must be right); ``difference`` (challenger minus champion: value, low, high, 95 %);
        ``milliseconds_per_request`` of each at ``batch``; ``saving`` (share; negative: dearer).
    """
    manifest = artifacts.load(challenger.data, artifacts.DATASET)
    texts, indices = artifacts.texts_and_labels(challenger.data, "test")
    kept = np.array([key(text) not in learnt for text in texts], np.bool_)
    if not kept.any():
        return None
    texts, truth = [texts[i] for i in np.flatnonzero(kept)], _names(manifest["labels"], indices[kept])
    correct = [np.array(_answers(model, texts) == truth, np.bool_) for model in (challenger.predictor, champion)]
    difference = paired_difference(correct[0], correct[1], seed=config.seed)
    seconds = seconds_per_request([challenger.predictor, champion], texts, challenger.batch)
    sides = ("challenger", "champion")
    return {
        "rows": len(texts),
        "left_out": int((~kept).sum()),
        "accuracy": {side: float(c.mean()) for side, c in zip(sides, correct, strict=True)},
        "difference": {"value": difference.value, "low": difference.low, "high": difference.high},
        "batch": challenger.batch,
        "milliseconds_per_request": {side: s * 1000 for side, s in zip(sides, seconds, strict=True)},
        "saving": 1 - seconds[0] / seconds[1],
    }


def _answers(model: Predictor, texts: Sequence[str]) -> NDArray[np.object_]:
    order = np.argsort([len(text) for text in texts], kind="stable")  # like lengths together: less padding
    answers = np.empty(len(texts), dtype=np.object_)
    for start in range(0, len(texts), BATCH):
        report("comparing with the champion", start / len(texts))
        rows = order[start : start + BATCH]
        answers[rows] = _names(model.labels, predicted(model, model.probabilities([texts[i] for i in rows])))
    return answers


def _names(labels: Sequence[str], answers: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return each row's set of label names, shape (rows,), from indices or from zeros and ones (rows, labels)."""
    rows = [np.flatnonzero(row) for row in answers] if is_multi_label(answers) else answers[:, None]
    found = np.empty(len(answers), dtype=np.object_)
    found[:] = [frozenset(labels[int(i)] for i in row) for row in rows]
    return found


def seconds_per_request(models: Sequence[Predictor], texts: Sequence[str], batch: int) -> list[float]:
    """Time models in turns, ``ROUNDS`` rounds over the same texts; returns each one's median round."""
    chosen = list(texts[:: max(1, len(texts) // TIMED_TEXTS)])[:TIMED_TEXTS]
    batches = [chosen[i : i + batch] for i in range(0, len(chosen), batch)]
    times = np.empty((ROUNDS, len(models)))
    for model in models:
        model.probabilities(batches[0])  # the first call allocates
    for turn in range(ROUNDS):
        for i, model in enumerate(models):
            started = time.perf_counter()
            for texts_of_batch in batches:
                model.probabilities(texts_of_batch)
            times[turn, i] = time.perf_counter() - started
    return [float(median) / len(chosen) for median in np.median(times, axis=0)]


def judge(comparison: dict[str, Any], config: DeployConfig) -> tuple[bool, str]:
    """Apply the rule to what :func:`compare` returned: promote or not, and the reason in a sentence."""
    difference, saving = comparison["difference"], comparison["saving"]
    if difference["low"] > 0:
        promote, verdict = True, "significantly better"
    elif difference["low"] <= -config.margin:
        promote, verdict = False, f"not shown to be within {config.margin:g} of it"
    elif saving >= config.minimum_saving:
        promote, verdict = True, "cheaper and not inferior"
    else:
        verdict = f"not inferior, but neither better nor at least {config.minimum_saving:.0%} cheaper"
        promote = False
    interval = f"{difference['value']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
    price = f"costs {abs(saving):.0%} {'less' if saving >= 0 else 'more'} a request"
    return promote, f"accuracy {interval} on {comparison['rows']:,} rows, {price}: {verdict}."
