"""Drift on real data: false alarms over many seeds, and which planted drift is seen, by how many new rows.

UNDERCUT_SHARED_DATA=... pytest -m benchmark -s tests/benchmarks/test_drift.py
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from undercut import artifacts
from undercut.compress.structures import compress
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.monitor.drift import judged, labelled_tests
from undercut.predictors import load_predictor
from undercut.reference import read_reference, write_reference
from undercut.samples import Sample, measure

pytestmark = pytest.mark.benchmark
SEEDS = int(os.environ.get("UNDERCUT_BENCHMARK_SEEDS", "200"))
NEW_ROWS = (50, 200)
PERMUTATIONS = 2000
SOURCES = {"Banking77": "customer_service/banking77_train.csv", "SEntFiN": "finance/sentfin_headline.csv"}
Pool = tuple[Path, Sample, list[str], NDArray[np.int64], list[str]]


@pytest.fixture(scope="module", params=SOURCES)
def pool(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The reference's folder, its sample, and texts and labels that neither model nor reference has seen."""
    folder = tmp_path_factory.mktemp("pool")
    ingest(IngestConfig(source=str(shared_data / SOURCES[request.param])), folder / "data")
    card = artifacts.load(folder / "data", artifacts.DATASET)
    teacher = {"labels": card["labels"], "task": card["task"], "dataset": card["digest"], "precision": "as-is"}
    (folder / "teacher").mkdir()
    artifacts.seal(folder / "teacher", artifacts.MODEL, {**teacher, "max_length": 128, "lost": "", "base_model": None})
    compress("linear", folder / "teacher", folder / "data", folder / "model", 0)
    write_reference(folder / "model", folder / "data", folder / "reference")
    known = read_reference(folder / "reference")
    texts, truth = artifacts.texts_and_labels(folder / "data", "test")
    kept = np.sort(np.random.default_rng(0).permutation(len(texts))[:1000])
    rest = np.setdiff1d(np.arange(len(texts)), kept)
    print(f"\n{request.param}: {known.labelled.rows:,} rows kept, {len(rest):,} to draw new rows from")
    return folder, known.labelled, [texts[i] for i in rest], truth[rest], card["labels"]


def look(pool: Pool, texts: list[str], truth: NDArray[np.int64]) -> Sample:
    words = read_reference(pool[0] / "reference").words
    return measure(load_predictor(pool[0] / "model"), texts, words, truth, pool[4])


def alarms(before: Sample, now: Sample, labels: list[str], seed: int, significance: float) -> list[str]:
    found = judged(labelled_tests(before, now, (labels, labels), labels, PERMUTATIONS, seed), significance)
    return [test["test"] for test in found if test["alarm"]]


def test_false_alarms(pool: Pool) -> None:
    """Reference and new rows are drawn anew each time, from the same rows."""
    rest = look(pool, pool[2], pool[3])
    both = Sample(**{name: np.concatenate([value, vars(rest)[name]]) for name, value in vars(pool[1]).items()})
    for count in NEW_ROWS:
        runs = []
        for seed in range(SEEDS):
            rows = np.random.default_rng(seed).permutation(both.rows)[: 1000 + count]
            before, now = both.take(rows[count:]), both.take(rows[:count])
            runs.append(labelled_tests(before, now, (pool[4], pool[4]), pool[4], PERMUTATIONS, seed))
        for significance in (0.05, 0.01):
            false = sum(any(test["alarm"] for test in judged(run, significance)) for run in runs)
            print(f"{count} new rows at {significance}: an alarm in {false} of {SEEDS} runs")
            assert false <= SEEDS * significance + 3 * np.sqrt(SEEDS * significance * (1 - significance))


def headlines(shared_data: Path, pool: Pool) -> list[str]:
    other = SOURCES["SEntFiN" if len(pool[4]) == 77 else "Banking77"]
    with (shared_data / other).open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)][:2000]


@pytest.mark.parametrize("count", NEW_ROWS)
def test_planted_drift(pool: Pool, shared_data: Path, count: int) -> None:
    """How often each kind of drift is seen at significance 0.01, and which test sees it."""
    foreign = headlines(shared_data, pool)
    most = int(np.bincount(pool[3]).argmin())
    of_label = np.flatnonzero(pool[3] == most)

    def mix(change: str, generator: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
        rows = generator.permutation(len(pool[2]))[:count]
        texts, truth = [pool[2][i] for i in rows], pool[3][rows].copy()
        tenth = range(count // 10)
        for place, row in zip(tenth, generator.choice(of_label, len(tenth)), strict=True):
            if change == "a tenth of one label more":
                texts[place], truth[place] = pool[2][row], most
            if change == "a tenth of another topic":
                texts[place] = foreign[int(generator.integers(len(foreign)))]
        if change == "three in ten in capitals":
            texts = [t.upper() if i < count * 3 // 10 else t for i, t in enumerate(texts)]
        if change == "a fifth labelled at random":
            truth[: count // 5] = generator.integers(len(pool[4]), size=count // 5)
        return texts, truth

    changes: list[str] = [
        "nothing", "a tenth of one label more", "a tenth of another topic", "three in ten in capitals",
        "a fifth labelled at random",
    ]  # fmt: skip
    for change in changes:
        found: list[list[str]] = []
        for seed in range(20):
            now = look(pool, *mix(change, np.random.default_rng(seed)))
            found.append(alarms(pool[1], now, pool[4], seed, 0.01))
        tests = sorted({test for run in found for test in run})
        by = ", ".join(f"{test} {sum(test in run for run in found)}" for test in tests)
        print(f"{count} new rows, {change}: {sum(map(bool, found))} of 20 ({by})")
        if change == "nothing":
            assert sum(map(bool, found)) <= 2
        elif count == max(NEW_ROWS) and len(pool[4]) == 77:
            assert sum(map(bool, found)) >= 18


def test_the_published_test_rows(pool: Pool, shared_data: Path) -> None:
    """Banking77's own test set has as many rows of each label, its training set has not: a shift of 1.3 points at most."""
    if len(pool[4]) != 77:
        pytest.skip("SEntFiN has no test set of its own")
    with (shared_data / "customer_service/banking77_test.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[::2]
    truth = np.array([pool[4].index(row["label"]) for row in rows])
    now = look(pool, [row["text"] for row in rows], truth)
    found = judged(labelled_tests(pool[1], now, (pool[4], pool[4]), pool[4], PERMUTATIONS, 0), 0.01)
    for test in found:
        print(
            f"{test['test']}: {test['before']} to {test['now']}, p {test['p_value']:.4f}, {test['alarm']} {test['detail']}"
        )
