import numpy as np
from undercut.tune.trials import packed, subset, unpacked


def test_a_subset_keeps_the_shares_and_every_label() -> None:
    labels = np.array([0] * 600 + [1] * 300 + [2] * 98 + [3] * 2)
    chosen = subset(labels, 100, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [59, 30, 10, 1]
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    assert np.array_equal(chosen, subset(labels, 100, seed=1))
    assert not np.array_equal(chosen, subset(labels, 100, seed=2))


def test_no_subset_is_all_rows() -> None:
    labels = np.zeros(7, dtype=np.int64)
    assert subset(labels, 0, seed=0).tolist() == list(range(7))
    assert subset(labels, 9, seed=0).tolist() == list(range(7))


def test_right_and_wrong_go_through_text() -> None:
    correct = np.random.default_rng(0).random(5000) < 0.8
    text = packed(correct)
    assert len(text) == 836
    assert np.array_equal(unpacked(text, 5000), correct)
