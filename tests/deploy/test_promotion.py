"""The rule, and moving the alias while others do the same."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from undercut import artifacts, registry
from undercut.companions import Origin
from undercut.deploy import promotion
from undercut.deploy.notes import label_note
from undercut.deploy.promotion import Challenger, PromotionError, judge, promote, seconds_per_request
from undercut.deploy.registration import register
from undercut.deploy.settings import DeployConfig
from undercut.predictors import FloatArray, Predictor, load_predictor

from tests.conftest import write_dataset

CONFIG = DeployConfig(model_name="shop")


@pytest.mark.parametrize(
    ("low", "saving", "promoted", "why"),
    [
        (0.001, -3.0, True, "costs 300% more a request: significantly better"),
        (0.0, 0.5, True, "costs 50% less a request: cheaper and not inferior"),
        (-0.009, 0.05, True, "cheaper and not inferior"),
        (-0.009, 0.049, False, "not inferior, but neither better nor at least 5% cheaper"),
        (-0.01, 0.9, False, "costs 90% less a request: not shown to be within 0.01 of it"),
        (0.0, 0.0, False, "neither better"),
    ],
)
def test_the_rule(low: float, saving: float, promoted: bool, why: str) -> None:
    difference = {"value": low + 0.01, "low": low, "high": low + 0.02}
    moved, sentence = judge({"difference": difference, "saving": saving, "rows": 3080}, CONFIG)
    assert moved is promoted
    assert why in sentence
    assert sentence.startswith(f"accuracy {low + 0.01:+.4f} ({low:+.4f} to {low + 0.02:+.4f}) on 3,080 rows, costs ")


def test_differing_labels_are_described() -> None:
    assert label_note(["a", "b"], ["b", "a"]) == ""
    assert label_note(["a", "b"], ["b", "c", "d"]) == (
        " The label sets differ: the challenger adds a and drops c, d; "
        "a test row whose label a model does not know counts as its mistake."
    )


class Slowed:
    """A predictor that takes longer than the one it wraps."""

    def __init__(self, predictor: Predictor, seconds: float = 0.0, act: Callable[[], object] = lambda: None) -> None:
        self.labels, self._predictor, self._seconds, self._act = predictor.labels, predictor, seconds, act

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        time.sleep(self._seconds)
        self._act()
        return self._predictor.probabilities(texts)


def test_models_are_timed_in_turns(linear_model: Path, small_data: Path) -> None:
    predictor = load_predictor(linear_model)
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    slow, fast = seconds_per_request([Slowed(predictor, 0.004), predictor], texts, batch=1)
    assert slow - fast > 0.002
    slow, fast = seconds_per_request([Slowed(predictor, 0.032), predictor], texts, batch=32)
    assert 0.0005 < slow - fast < 0.016, "of one request, not of its batch"


def challenger(folder: Path, selection: Path, data: Path) -> Challenger:
    client = registry.connect()
    run = client.create_run(registry.experiment_id(client, "shop")).info.run_id
    version = register(
        client, folder, artifacts.load(selection, artifacts.SELECTION), 100, "shop", run, Origin(data=data)
    )
    return Challenger(version=version, predictor=load_predictor(folder), data=data, batch=1)


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory,
    small_data: Path,
    make_linear_model: Callable[..., Path],
    make_selection: Callable[..., Path],
) -> tuple[Path, list[Challenger]]:
    """A workspace with four registered versions, each learnt from more rows than the one before."""
    folder, result = tmp_path_factory.mktemp("registered"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", "")
        for rows in (8, 16, 60, 300):
            model = make_linear_model(folder / f"model-{rows}", small_data, rows=rows)
            result.append(challenger(model, make_selection(folder / f"selection-{rows}", model), small_data))
    return folder, result


@pytest.fixture
def challengers(registered: tuple[Path, list[Challenger]], monkeypatch: pytest.MonkeyPatch) -> list[Challenger]:
    """The four versions, none of them champion yet."""
    folder, result = registered
    monkeypatch.setenv("UNDERCUT_HOME", str(folder))
    client = registry.connect()
    if registry.by_alias(client, "shop", registry.CHAMPION):
        client.delete_registered_model_alias("shop", registry.CHAMPION)
    return result


def test_promoters_of_one_machine_take_turns(challengers: list[Challenger]) -> None:
    """All at once: no two of them replace the same champion, and the last one to move is the champion."""
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda c: promote(registry.connect(), c, CONFIG), challengers))
    replaced = [r.before.number if r.before else "" for r in results if r.moved]
    assert len(set(replaced)) == len(replaced)
    champion = registry.by_alias(registry.connect(), "shop", registry.CHAMPION)
    moved = {c.version.number for c, r in zip(challengers, results, strict=True) if r.moved}
    assert champion is not None
    assert {champion.number} == moved - set(replaced)
    assert champion.number in ("3", "4")


def test_a_champion_moved_by_another_machine_is_compared_again(challengers: list[Challenger]) -> None:
    client, (worst, poor, good, best) = registry.connect(), challengers
    promote(client, worst, CONFIG)
    moves = iter([poor.version.number, *[""] * 10_000])

    def meddle() -> None:
        number = next(moves)
        if number:
            client.set_registered_model_alias("shop", registry.CHAMPION, number)

    result = promote(client, replace(best, predictor=Slowed(best.predictor, act=meddle)), CONFIG)
    assert result.moved
    assert result.before is not None
    assert result.before.number == poor.version.number
    assert good.version.number != result.before.number


def test_a_champion_that_keeps_moving_ends_it(challengers: list[Challenger]) -> None:
    client, (worst, poor, _, best) = registry.connect(), challengers
    promote(client, worst, CONFIG)
    calls = iter(range(10_000))

    def meddle() -> None:
        number = (poor, worst)[next(calls) % 2].version.number
        client.set_registered_model_alias("shop", registry.CHAMPION, number)

    texts, _ = artifacts.texts_and_labels(best.data, "test")
    once_a_comparison = replace(best, predictor=Slowed(best.predictor, act=every(meddle, comparison_calls(len(texts)))))
    with pytest.raises(PromotionError, match="moved the champion 3 times"):
        promote(client, once_a_comparison, CONFIG)


def comparison_calls(rows: int) -> int:
    """Return how often one comparison asks a model at batch 1."""
    timed = len(range(0, rows, max(1, rows // promotion.TIMED_TEXTS))[: promotion.TIMED_TEXTS])
    return -(-rows // promotion.BATCH) + 1 + promotion.ROUNDS * timed


def every(act: Callable[[], object], calls: int) -> Callable[[], object]:
    count = iter(range(10_000_000))
    return lambda: act() if next(count) % calls == 0 else None


def test_a_tampered_champion_is_refused(challengers: list[Challenger]) -> None:
    from undercut.errors import ConfigurationError

    client, (worst, *_, best) = registry.connect(), challengers
    promote(client, worst, CONFIG)
    folder = registry.fetch(client, worst.version)
    (folder / "vocabulary.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="its SHA-256 is not the recorded one"):
        promote(client, best, CONFIG)
    shutil.rmtree(folder)
    registry.fetch(client, worst.version)
    assert promote(client, best, CONFIG).moved


def test_answers_keep_their_rows(linear_model: Path, small_data: Path) -> None:
    """They are computed in order of length."""
    predictor = load_predictor(linear_model)
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    expected = np.array(predictor.labels, dtype=np.object_)[predictor.probabilities(texts).argmax(axis=1)]
    answers: Any = promotion._answers(predictor, texts)
    assert answers.tolist() == [frozenset([name]) for name in expected]


def test_rows_that_the_champion_learnt_from_are_left_out(
    challengers: list[Challenger], small_data: Path, tmp_path: Path
) -> None:
    """The source grew: its test rows are 40 that the champion learnt from, and the champion's own 116."""
    client, (champion, best) = registry.connect(), (challengers[0], challengers[3])
    promote(client, champion, CONFIG)
    rows = [(text, label) for split in ("test", "train") for text, label in _rows(small_data, split)]
    grown = write_dataset(tmp_path / "grown", [*rows[156:], *rows[:156]], (0.5, 0.5 - 156 / len(rows)))
    assert artifacts.load(grown, artifacts.DATASET)["rows"]["test"] in (156, 157)
    found = promote(client, replace(best, data=grown), CONFIG)
    assert found.comparison is not None
    own = promotion.compare(best, load_predictor(registry.fetch(client, champion.version)), CONFIG, frozenset())
    assert own is not None
    assert found.comparison["rows"] == own["rows"] == 116
    assert found.comparison["difference"] == own["difference"]
    assert f"Left out: {found.comparison['left_out']} test rows that the champion learnt from." in found.reason


def test_a_champion_that_learnt_from_every_test_row_stays(
    challengers: list[Challenger], small_data: Path, tmp_path: Path
) -> None:
    client, (champion, best) = registry.connect(), (challengers[0], challengers[3])
    promote(client, champion, CONFIG)
    learnt = write_dataset(tmp_path / "learnt", _rows(small_data, "train"))
    found = promote(client, replace(best, data=learnt), CONFIG)
    assert not found.moved
    assert found.comparison is None
    assert "it learnt from every test row" in found.reason


def _rows(data: Path, split: str) -> list[tuple[str, str]]:
    names = artifacts.load(data, artifacts.DATASET)["labels"]
    texts, labels = artifacts.texts_and_labels(data, split)
    return [(text, names[label]) for text, label in zip(texts, labels, strict=True)]
