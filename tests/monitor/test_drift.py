"""Drift tests together, on a real model's answers: false alarms over many seeds, and planted drift."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from undercut import artifacts
from undercut.monitor.drift import Outcome, judged, labelled_tests, traffic_tests
from undercut.monitor.shifts import Shift
from undercut.predictors import load_predictor
from undercut.samples import Sample, measure, word_keys

from tests.conftest import small_rows, write_dataset

NAMES = ["cancel", "refund", "track"]


@pytest.fixture(scope="module")
def pool(linear_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Two thousand rows that the model has not learnt from, measured once."""
    rows = [(f"{text} {word}", label) for word in ("now", "again", "today", "soon") for text, label in small_rows()]
    data = write_dataset(tmp_path_factory.mktemp("pool") / "data", rows, (0.01, 0.01))
    return sample(linear_model, *artifacts.texts_and_labels(data, "test"))


def sample(model: Path, texts: list[str], truth: NDArray[np.int64]) -> Sample:
    known = frozenset(word for text, _ in small_rows() for word in word_keys(text))
    return measure(load_predictor(model), texts, known, truth, NAMES)


def alarms(before: Sample, now: Sample, seed: int = 0, significance: float = 0.05) -> set[str]:
    found = labelled_tests(before, now, (NAMES, NAMES), NAMES, 400, seed)
    return {entry["test"] for entry in judged(found, significance) if entry["alarm"]}


@pytest.mark.slow
def test_false_alarms_of_all_tests_together_are_as_rare_as_the_significance(pool: Sample) -> None:
    """A run with any alarm at all: at most 5 % of 200, within three standard errors."""
    false = 0
    for seed in range(200):
        rows = np.random.default_rng(seed).permutation(pool.rows)
        false += bool(alarms(pool.take(rows[:200]), pool.take(rows[200:320]), seed))
    assert false <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95)


def split(pool: Sample) -> tuple[Sample, Sample]:
    rows = np.random.default_rng(0).permutation(pool.rows)
    return pool.take(rows[:400]), pool.take(rows[400:])


def test_another_mix_of_labels_is_seen(pool: Sample) -> None:
    before, now = split(pool)
    refunds = np.flatnonzero(now.labels[:, 1])
    others = np.flatnonzero(1 - now.labels[:, 1])
    mixed = now.take(np.concatenate([refunds[:100], others[:60]]))
    assert {"labels", "answers"} <= alarms(before, mixed)
    assert alarms(before, now.take(np.arange(160))) == set()


def test_a_new_topic_is_seen(pool: Sample, linear_model: Path) -> None:
    topics = [
        f"{thing} {what}" for thing in ("voucher", "gift card", "coupon") for what in ("rejected", "expired", "gone")
    ]
    texts = [f"{topic} {end}" for topic in topics for end in ("since monday", "at the checkout", "why", "help")]
    now = sample(linear_model, texts, np.zeros(len(texts), np.int64))
    assert {"words", "text", "accuracy"} <= alarms(split(pool)[0], now)


def test_another_style_is_seen(pool: Sample, linear_model: Path) -> None:
    rows = small_rows()[:120]
    labels = np.array([NAMES.index(label) for _, label in rows])
    shouting = sample(linear_model, [text.upper() + "!!!" for text, _ in rows], labels)
    assert "text" in alarms(split(pool)[0], shouting)


def test_a_champion_that_fails_is_seen(pool: Sample, linear_model: Path) -> None:
    rows = small_rows()[:120]
    wrong = np.array([(NAMES.index(label) + 1) % 3 for _, label in rows])
    assert "accuracy" in alarms(split(pool)[0], sample(linear_model, [text for text, _ in rows], wrong))


def test_a_new_label_is_a_shift_of_labels(pool: Sample) -> None:
    before, now = split(pool)
    found = labelled_tests(before, now, (NAMES, ["cancel", "refund", "voucher"]), NAMES, 400, 0)
    assert next(o for o in found if o.test == "labels").shift.p_value < 0.01


def test_traffic_needs_no_labels(pool: Sample) -> None:
    before, now = split(pool)
    found = traffic_tests(before, now, NAMES, 400, 0, prefix="traffic ")
    assert [o.test for o in found] == [f"traffic {name}" for name in ("answers", "confidence", "words", "text")]
    assert not any(entry["alarm"] for entry in judged(found, 0.01))


def test_a_test_that_misses_its_threshold_acquits_all_with_larger_p_values() -> None:
    outcomes = [
        Outcome(test=test, shift=Shift(statistic=1.0, p_value=p), rows=(9, 9), before=None, now=None)
        for test, p in (("labels", 0.001), ("answers", 0.03), ("words", 0.02), ("text", 0.04))
    ]
    found = judged(outcomes, 0.05)
    assert [entry["alarm"] for entry in found] == [True, False, False, False]
    assert [round(entry["threshold"], 4) for entry in found] == [0.0125, 0.025, 0.0167, 0.05]
