import itertools
import random

import numpy as np
import pytest
from undercut.ingest.clean import text_keys
from undercut.ingest.rules import CONFLICT, DUPLICATE, RARE, TWO_SPLITS, UNSEEN
from undercut.ingest.split import FATES, Keys, decide


def make_keys(rows: list[tuple[str, int, int]], times: list[float] | None = None) -> Keys:
    """Rows are (text, label, split given)."""
    texts, words = zip(*(text_keys(text) for text, _, _ in rows), strict=True)
    return Keys(
        text=np.array(texts, np.uint64),
        words=np.array(words, np.uint64),
        label=np.array([label for _, label, _ in rows], np.int32),
        given=np.array([given for _, _, given in rows], np.uint8),
        time=np.array(times or [], np.float64),
    )


def fates(rows: list[tuple[str, int, int]], times: list[float] | None = None, seed: int = 0) -> list[str]:
    return [FATES[i] for i in decide(make_keys(rows, times), seed)[0]]


def given_rows() -> list[tuple[str, int, int]]:
    return [
        (f"{name} {label} {i}", label, split) for split, name in enumerate("abc") for label in (0, 1) for i in range(4)
    ]


def test_repeats_within_a_split() -> None:
    rows = [("Hello you", 0, 0), ("hello YOU", 0, 0), ("odd", 0, 0), ("Odd", 1, 0), ("odd", 0, 0), ("hello you!", 1, 0)]
    assert fates([*given_rows(), *rows])[24:] == ["train", DUPLICATE, CONFLICT, CONFLICT, CONFLICT, "train"]


def test_the_later_split_keeps_the_text_whatever_its_label() -> None:
    rows = [
        ("all three", 0, 0),
        ("all three", 0, 1),
        ("All three!", 1, 2),
        ("two", 0, 0),
        ("two?", 0, 1),
        ("one", 0, 0),
    ]
    assert fates([*given_rows(), *rows])[24:] == [TWO_SPLITS, TWO_SPLITS, "test", TWO_SPLITS, "validation", "train"]


def test_a_text_whose_test_rows_conflict_stays_in_training() -> None:
    rows = [("odd", 0, 2), ("odd", 1, 2), ("odd", 0, 0)]
    assert fates([*given_rows(), *rows])[24:] == [CONFLICT, CONFLICT, "train"]


def test_rare_and_unseen_labels() -> None:
    rows = [
        ("r1", 2, 0),
        ("r2", 2, 2),
        ("u1", 3, 2),
        ("u2", 3, 2),
        ("u3", 3, 1),
        ("s1", 4, 0),
        ("s2", 4, 2),
        ("s3", 4, 2),
    ]
    assert fates([*given_rows(), *rows])[24:] == [RARE, RARE, UNSEEN, UNSEEN, UNSEEN, "train", "test", "test"]


def many_rows(n: int = 1000, labels: int = 10) -> list[tuple[str, int, int]]:
    return [(f"text number {i}", i % labels, 0) for i in range(n)]


def test_stratified_shares_by_label() -> None:
    found = fates(many_rows())
    for label in range(10):
        of_label = found[label::10]
        assert [of_label.count(split) for split in ("train", "validation", "test")] == [70, 10, 20]


def test_only_what_is_not_given_is_cut() -> None:
    rows = [*many_rows(), *[(f"test {i}", i % 10, 2) for i in range(50)]]
    found, cut = decide(make_keys(rows), 0)
    assert np.bincount(found)[:3].tolist() == [900, 100, 50]
    assert cut == {"validation": 0.1}
    found, cut = decide(make_keys([*rows, *[(f"dev {i}", i % 10, 1) for i in range(50)]]), 0)
    assert np.bincount(found)[:3].tolist() == [1000, 50, 50]
    assert cut == {}


def test_small_labels_stand_in_every_split() -> None:
    for n in range(3, 12):
        found = fates([*many_rows(100, 2), *[(f"small {i}", 5, 0) for i in range(n)]])[100:]
        assert set(found) == {"train", "validation", "test"}, n


def test_the_cut_follows_words_and_seed_not_the_order() -> None:
    rows = many_rows()
    before = dict(zip(rows, fates(rows), strict=True))
    shuffled = random.Random(1).sample(rows, len(rows))
    assert dict(zip(shuffled, fates(shuffled), strict=True)) == before
    other = dict(zip(rows, fates(rows, seed=1), strict=True))
    assert 0.4 < np.mean([before[row] == other[row] for row in rows]) < 0.7  # 0.54 by chance
    grown = [*rows, *[(f"new {i}", i % 10, 0) for i in range(100)]]
    after = fates(grown)[:1000]
    assert np.mean([a == b for a, b in zip(after, before.values(), strict=True)]) > 0.9


def test_texts_of_the_same_words_go_together() -> None:
    rows = [(text, i % 5, 0) for i in range(300) for text in (f"is it {i}", f"is it {i}?", f"Is it: {i}!")]
    counts = {name: fates(rows).count(name) for name in FATES}
    assert counts[TWO_SPLITS] <= 2 * 2 * 5  # at most the texts at a border, two borders a label
    by_words: dict[str, set[str]] = {}
    for (text, _, _), fate in zip(rows, fates(rows), strict=True):
        by_words.setdefault(text.lower().translate(str.maketrans("", "", "?:!")), set()).add(fate)
    assert all(len(found - {TWO_SPLITS}) == 1 for found in by_words.values())


def test_by_time_the_newest_are_the_test() -> None:
    rows = [(f"text {i}", i % 2, 0) for i in range(100)]
    times = random.Random(0).sample(range(100), 100)
    found = fates(rows, [float(t) for t in times])
    by_time = [fate for _, fate in sorted(zip(times, found, strict=True))]
    assert [(key, len(list(group))) for key, group in itertools.groupby(by_time)] == [
        *(("train", 70), ("validation", 10), ("test", 20)),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_plain_reading_of_the_rules(seed: int) -> None:
    """Repeats and leaks decided one by one in dictionaries, on random rows of few texts."""
    dice = random.Random(seed)
    rows = [(f"t {dice.randrange(60)}", dice.randrange(2), dice.choice((0, 0, 1, 2))) for _ in range(200)]
    labels: dict[tuple[str, int], set[int]] = {}
    for text, label, given in rows:
        labels.setdefault((text, given), set()).add(label)
    expected, seen = [], set()
    for text, _, given in rows:
        later = any(len(labels.get((text, split), ())) == 1 for split in range(given + 1, 3))
        if len(labels[text, given]) > 1:
            expected.append(CONFLICT)
        elif (text, given) in seen:
            expected.append(DUPLICATE)
        else:
            expected.append(TWO_SPLITS if later else FATES[given])
        seen.add((text, given))
    assert fates(rows) == expected
