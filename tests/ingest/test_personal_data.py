"""Recall and precision on 263 sentences that the patterns were made with, and on 79 that came after."""

from collections import Counter

import pytest
from undercut.ingest.personal_data import find, mask

from tests.ingest.labelled_sentences import read, score


def test_all_of_the_sentences_the_patterns_were_made_with() -> None:
    sentences = read("personal_data.txt")
    assert (len(sentences), sum(not spans for _, spans in sentences)) == (263, 116)
    found = score(sentences, find)
    assert (found.missed, found.wrong) == ([], [])
    assert (found.marked, found.named, found.found) == (171, 171, 171)


def test_sentences_the_patterns_had_not_seen() -> None:
    sentences = read("personal_data_held_out.txt")
    assert (len(sentences), sum(not spans for _, spans in sentences)) == (79, 30)
    found = score(sentences, find)
    assert (found.recall, round(found.precision, 4)) == (1.0, 0.9286)
    assert found.wrong == ["PHONE: 00482-2291", "PHONE: 00482910.5", "IP: 2.0.1.5", "IP: 4:3::8:6"]


def test_the_mask_stands_in_place_of_what_was_found() -> None:
    for text, marked in read("personal_data.txt"):
        counts: Counter[str] = Counter()
        expected, last = "", 0
        for kind, start, end in marked:
            expected, last = f"{expected}{text[last:start]}<{kind}>", end
        assert mask(text, counts) == expected + text[last:]
        assert counts == Counter(f"<{kind}>" for kind, _, _ in marked)


@pytest.mark.parametrize("part", ["a.b-c+", "1-", "a:", "0 12 ", "DE89 ", "www", "1.1", "@a.", "+49 ", "https://"])
def test_long_runs_that_almost_match_are_read_once(part: str) -> None:
    """A pattern that starts over at each place would take minutes for one of these."""
    text = part * (200_000 // len(part))
    masked = mask(text, counts := Counter())
    assert masked.count("<") == counts.total() == {"https://": 1}.get(part, 0)


def test_many_finds_in_one_text() -> None:
    masked = mask("ann@example.com, 13800138000; " * 20_000, counts := Counter())
    assert masked == "<EMAIL>, <PHONE>; " * 20_000
    assert counts == {"<EMAIL>": 20_000, "<PHONE>": 20_000}
