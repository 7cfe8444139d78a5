import numpy as np
from undercut.batching import length_batches

LENGTHS = np.random.default_rng(0).integers(4, 60, 1000)


def test_every_row_once_within_the_budget() -> None:
    batches = length_batches(LENGTHS, 512, seed=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert all(len(b) * LENGTHS[b].max() <= 512 for b in batches)
    assert len(batches) == 68


def test_hardly_anything_is_padded() -> None:
    batches = length_batches(LENGTHS, 512, seed=1)
    padded = sum(len(b) * LENGTHS[b].max() for b in batches)
    assert padded / LENGTHS.sum() < 1.02


def test_order_depends_on_the_seed_alone() -> None:
    first, again, other = (length_batches(LENGTHS, 512, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert len(first) == len(other)


def test_a_text_over_the_budget_travels_alone() -> None:
    batches = length_batches(np.array([5, 900, 5]), 64, seed=None)
    assert [b.tolist() for b in batches] == [[0, 2], [1]]
