import numpy as np
import pytest
from undercut.batching import ShuffledBatches, length_batches, pack, permuted

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


def test_packing_frames_texts_and_drops_the_last_part_of_a_row() -> None:
    assert pack([[5, 6], [7], [8, 9]], begin=1, end=2, length=4).tolist() == [[1, 5, 6, 2], [1, 7, 2, 1]]
    assert pack([[5, 6], [7]], begin=None, end=0, length=2).tolist() == [[5, 6], [0, 7]]


@pytest.mark.parametrize("size", [1, 2, 3, 100, 1000, 4097])
def test_a_permutation_reaches_every_row_once(size: int) -> None:
    found = permuted(np.arange(size), size, seed=7)
    assert sorted(found.tolist()) == list(range(size))
    if size > 100:
        assert np.abs(np.corrcoef(np.arange(size), found)[0, 1]) < 0.1
        assert not np.array_equal(found, permuted(np.arange(size), size, seed=8))


def test_any_position_of_the_stream_can_be_computed() -> None:
    """Cut in two, the stream is the same; a pass visits each row once."""
    whole = ShuffledBatches(10, 4, 0, 10, seed=3)
    later = ShuffledBatches(10, 4, 6, 4, seed=3)
    assert [b.tolist() for b in whole[6:]] == [b.tolist() for b in later]
    stream = np.concatenate(list(whole))
    for start in range(0, 40, 10):
        assert sorted(stream[start : start + 10].tolist()) == list(range(10))
    assert stream[:10].tolist() != stream[10:20].tolist()
