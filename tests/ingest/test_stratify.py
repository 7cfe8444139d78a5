import numpy as np
import pytest
from undercut.ingest.label_sets import LabelSets
from undercut.ingest.stratify import stratify

SHARES = {2: 0.2, 1: 0.1}


def random_sets(rows: int, labels: int, seed: int = 0) -> tuple[np.ndarray, LabelSets]:
    """Rows with each label at a chance of its own, from 30 % down to 0.3 %."""
    generator = np.random.default_rng(seed)
    held = generator.random((rows, labels)) < np.geomspace(0.3, 0.003, labels)
    numbers: dict[tuple[int, ...], int] = {}
    sets = [numbers.setdefault(tuple(np.flatnonzero(row).tolist()), len(numbers)) for row in held]
    return np.array(sets), LabelSets.of(list(numbers), labels)


def label_shares(sets: np.ndarray, table: LabelSets, places: np.ndarray) -> np.ndarray:
    """Rows of each label in each split, shape (splits, labels)."""
    return np.array([table.label_rows(np.bincount(sets[places == s], minlength=len(table.sizes))) for s in range(3)])


@pytest.mark.parametrize("seed", range(3))
def test_each_label_has_its_share_in_each_split(seed: int) -> None:
    sets, table = random_sets(2000, 12, seed)
    places = stratify(sets, table, SHARES, 0, 3)
    found = label_shares(sets, table, places)
    wanted = np.outer([0.7, 0.1, 0.2], found.sum(axis=0))
    assert np.abs(found - wanted)[:, 4:].max() < 1  # 116 rows and fewer
    assert (np.abs(found - wanted) / found.sum(axis=0))[:, :4].max() < 0.02
    assert np.bincount(places) == pytest.approx([1400, 200, 400], abs=20)
    unlabelled = table.sizes[sets] == 0
    assert np.bincount(places[unlabelled]) / unlabelled.sum() == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_it_beats_a_draw_of_rows() -> None:
    """Where labels are rare: the mean distance from the wanted rows a label (Sechidis et al.'s LD, in rows)."""
    sets, table = random_sets(600, 40)
    whole = label_shares(sets, table, np.zeros(600)).sum(axis=0)
    wanted = np.outer([0.7, 0.1, 0.2], whole)
    distances = {}
    for name, places in {
        "stratified": stratify(sets, table, SHARES, 0, 3),
        "drawn": np.random.default_rng(0).choice(3, 600, p=[0.7, 0.1, 0.2]),
    }.items():
        distances[name] = np.abs(label_shares(sets, table, places) - wanted).mean()
    assert distances["stratified"] == pytest.approx(0.5, abs=0.25)
    assert distances["drawn"] > 3 * distances["stratified"]


def test_a_label_of_three_rows_gives_every_split_one() -> None:
    table = LabelSets.of([(0,), (1,), (0, 2)], 3)
    sets = np.array([0] * 40 + [1] * 40 + [2] * 3)
    found = label_shares(sets, table, stratify(sets, table, SHARES, 0, 3))
    assert found[:, 2].tolist() == [1, 1, 1]
    assert found[:, 1].tolist() == [28, 4, 8]


def test_large_sets_are_dealt_in_whole_shares() -> None:
    table = LabelSets.of([(0, 1), (1,), ()], 2)
    sets = np.repeat([0, 1, 2], 100)
    places = stratify(sets, table, SHARES, 0, 3)
    for start in (0, 100, 200):
        assert np.bincount(places[start : start + 100]).tolist() == [70, 10, 20]


def test_nothing_to_cut_leaves_all_where_they_are_and_rows_may_be_none() -> None:
    sets, table = random_sets(50, 4)
    assert set(stratify(sets, table, {}, 0, 3).tolist()) == {0}
    assert len(stratify(sets[:0], table, SHARES, 0, 3)) == 0


def test_the_same_rows_give_the_same_split() -> None:
    sets, table = random_sets(300, 8)
    first, second = (stratify(sets, table, SHARES, 0, 3) for _ in range(2))
    assert np.array_equal(first, second)
