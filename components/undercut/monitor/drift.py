"""Drift: does today's text, or what the champion makes of it, differ from what it was made on?

Six tests on new labelled rows, four on unlabelled traffic, corrected for their number, so that the chance of
any false alarm in one run is the significance at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from undercut.intervals import accuracy_interval
from undercut.monitor.shifts import Shift, accuracy_fall, distribution_shift, holm, kernel_shift, mean_rise, share_shift
from undercut.predictors import FloatArray
from undercut.samples import Flags, Sample, aligned

# What each test looks at, and its statistic.
TESTS = {
    "labels": "largest change of a label's share",
    "answers": "largest change of the share of one of the champion's answers",
    "confidence": "distance of the distributions of the champion's confidence",
    "words": "rise of the share of words that no training row has",
    "text": "squared discrepancy of character trigrams",
    "accuracy": "fall of the champion's accuracy",
}


BINS = 10  # of confidence


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One test.

    Attributes:
        test: its name, one of ``TESTS``, of traffic after that word.
        shift: what it found.
        rows: how many were looked at, of the reference and now.
        before: the figure that stands for the reference; None where one figure says nothing.
        now: the same of today's rows.
        detail: what ``before`` and ``now`` are of.
        shares: how the rows are spread, before and now, over labels or over levels of confidence: pairs by name.
    """

    test: str
    shift: Shift
    rows: tuple[int, int]
    before: float | None
    now: float | None
    detail: str = ""
    shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def labelled_tests(
    before: Sample,
    now: Sample,
    labels: tuple[Sequence[str], Sequence[str]],
    answers: Sequence[str],
    permutations: int,
    seed: int,
) -> list[Outcome]:
    """Return the outcomes on rows with labels.

    Args:
        before: the reference.
        now: new rows, one or more.
        labels: the label names of the reference's dataset and of the new one.
        answers: the champion's label names.
        permutations: of each permutation test.
        seed: of the permutations.
    """
    union = list(dict.fromkeys([*labels[0], *labels[1]]))
    old, new = aligned(before.labels, labels[0], union), aligned(now.labels, labels[1], union)
    accuracy = Outcome(
        test="accuracy",
        shift=accuracy_fall(before.correct, now.correct),
        rows=(before.rows, now.rows),
        before=float(before.correct.mean()),
        now=float(now.correct.mean()),
        detail=f"{_interval(before.correct)} when it was made, {_interval(now.correct)} now",
    )
    shares = _shares("labels", old, new, union, permutations, seed)
    return [shares, *traffic_tests(before, now, answers, permutations, seed), accuracy]


def traffic_tests(
    before: Sample, now: Sample, answers: Sequence[str], permutations: int, seed: int, prefix: str = ""
) -> list[Outcome]:
    """Return the outcomes that take no labels; ``prefix`` stands before each test's name."""
    rows = before.rows, now.rows
    words = Outcome(
        test=f"{prefix}words",
        shift=mean_rise(before.unknown, now.unknown, permutations, seed),
        rows=rows,
        before=float(before.unknown.mean()),
        now=float(now.unknown.mean()),
    )
    confidence = Outcome(
        test=f"{prefix}confidence",
        shift=distribution_shift(before.confidence, now.confidence),
        rows=rows,
        before=float(before.confidence.mean()),
        now=float(now.confidence.mean()),
        shares=_spread(before.confidence, now.confidence),
    )
    text = Outcome(
        test=f"{prefix}text",
        shift=kernel_shift(before.features, now.features, permutations, seed),
        rows=rows,
        before=None,
        now=None,
    )
    shares = _shares(f"{prefix}answers", before.answers, now.answers, answers, permutations, seed)
    return [shares, confidence, words, text]


def judged(outcomes: Sequence[Outcome], significance: float) -> list[dict[str, Any]]:
    """Return each outcome as it goes into the manifest: with its threshold, and whether it is an alarm."""
    thresholds = holm([o.shift.p_value for o in outcomes], significance)
    stands = [o.shift.p_value <= t for o, t in zip(outcomes, thresholds, strict=True)]
    # The smallest p-value that misses its threshold acquits all larger ones.
    least = min((o.shift.p_value for o, s in zip(outcomes, stands, strict=True) if not s), default=np.inf)
    return [
        {
            "test": outcome.test,
            "what": TESTS[outcome.test.removeprefix("traffic ")],
            "rows": {"before": outcome.rows[0], "now": outcome.rows[1]},
            "before": outcome.before,
            "now": outcome.now,
            "detail": outcome.detail,
            "statistic": outcome.shift.statistic,
            "p_value": outcome.shift.p_value,
            "threshold": threshold,
            "alarm": bool(outcome.shift.p_value < least),
            "shares": [{"of": name, "before": old, "now": new} for name, (old, new) in outcome.shares.items()],
        }
        for outcome, threshold in zip(outcomes, thresholds, strict=True)
    ]


def _shares(test: str, old: Flags, new: Flags, names: Sequence[str], permutations: int, seed: int) -> Outcome:
    """Compare shares; what is shown before and now is the share of the label that moved most."""
    before, now = old.mean(axis=0), new.mean(axis=0)
    most = int(np.abs(now - before).argmax())
    return Outcome(
        test=test,
        shift=share_shift(old, new, permutations, seed),
        rows=(len(old), len(new)),
        before=float(before[most]),
        now=float(now[most]),
        detail=names[most],
        shares={name: (float(b), float(n)) for name, b, n in zip(names, before, now, strict=True)},
    )


def _spread(before: FloatArray, now: FloatArray) -> dict[str, tuple[float, float]]:
    """Return the share of rows in each tenth of confidence, shape (rows,) each, by the tenth's bounds."""
    edges = np.linspace(0, 1, BINS + 1)
    shares = [np.histogram(np.minimum(sample, 1), edges)[0] / len(sample) for sample in (before, now)]
    names = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(edges)]
    return {name: (float(b), float(n)) for name, b, n in zip(names, *shares, strict=True)}


def _interval(correct: Flags) -> str:
    found = accuracy_interval(correct.astype(np.bool_))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}) of {len(correct):,} rows"
