"""Text for the benchmarks of ingest: real paragraphs again and again, each time with other noise, and planted copies.

Two versions of one paragraph share about a tenth of their shingles, so that none counts as a near-duplicate of
another but those that are planted: copies with small edits, whose exact Jaccard similarity is noted.
"""

import csv
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

NOISE = 0.35  # share of the words replaced by others of the corpus
PIECE_WORDS, MINIMUM_WORDS = 80, 15
COPIES, DECOYS, PERSONAL, ACROSS = 0.02, 0.005, 0.03, 0.3
LABELS, DOCUMENT_PARAGRAPHS = 50, 6
_BLANK_LINES = re.compile(r"\n\s*\n")


class Planted(NamedTuple):
    """A pair: both rows' numbers, their exact Jaccard similarity, whether the copy lies in the test file."""

    original: str
    copy: str
    similarity: float
    across: bool


@dataclass
class _Copy:
    text: str
    label: int
    original: str
    similarity: float


def pieces(folder: Path) -> list[list[str]]:
    """Return the words of the corpora's paragraphs, in pieces of at most 80 words."""
    found = []
    for path in sorted((folder / "corpora").iterdir()):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for paragraph in _BLANK_LINES.split(stream.read()):
                words = paragraph.split()
                found += [words[i : i + PIECE_WORDS] for i in range(0, len(words), PIECE_WORDS)]
    return [words for words in found if len(words) >= MINIMUM_WORDS]


def texts(folder: Path, size: int, seed: int) -> Iterator[str]:
    """Yield noisy texts until they have ``size`` bytes together."""
    generator, dice = np.random.default_rng(seed), random.Random(seed)
    found = pieces(folder)
    words = np.array([word for piece in found for word in piece], object)
    ends = np.cumsum([len(piece) for piece in found]).tolist()
    while True:
        other = words[generator.integers(0, len(words), len(words))]
        noisy = np.where(generator.random(len(words)) < NOISE, other, words).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            text = " ".join(noisy[start:end])
            if dice.random() < PERSONAL:
                number = dice.randrange(10**6)
                text += f" Write to ann.lee{number}@mail.example or call +49 30 1{number:06}."
            yield text
            size -= len(text.encode()) + 2
            if size <= 0:
                return


def edited(text: str, dice: random.Random, edits: int) -> str:
    """Return a text with so many small edits: a word left out, put elsewhere, mistyped, capitalised or new."""
    words = text.split(" ")
    for _ in range(edits):
        at = dice.randrange(len(words))
        word = words.pop(at)
        kind = dice.randrange(5)
        if kind == 1:
            words.insert(dice.randrange(len(words)), word)
        elif kind == 2:
            words.insert(at, word[1:2] + word[:1] + word[2:])
        elif kind == 3:
            words.insert(at, word.upper() + ",")
        elif kind == 4:
            words[at:at] = [word, f"{dice.randrange(1000)}"]
    return " ".join(words)


def jaccard(one: str, two: str) -> float:
    """Return the Jaccard similarity of two texts' five-byte shingles in lower case."""
    sets = [{t[i : i + 5] for i in range(len(t) - 4)} for t in (one.lower().encode(), two.lower().encode())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def _copies(text: str, label: int, number: str, dice: random.Random) -> Iterator[_Copy]:
    """Yield a near-copy of one row in fifty, and a copy too far to count of one in two hundred."""
    drawn = dice.random()
    if drawn < COPIES + DECOYS:
        words = text.count(" ") + 1
        edits = dice.randint(1, 3) if drawn < COPIES else max(4, words * dice.randint(12, 25) // 100)
        copy = edited(text, dice, edits)
        yield _Copy(copy, label, number, jaccard(text, copy))


def write_labelled(folder: Path, corpora: Path, size: int, seed: int = 0) -> list[Planted]:
    """Write ``train.csv`` and ``test.csv`` (columns number, text, label) and return the planted pairs."""
    dice, waiting, planted = random.Random(seed), list[_Copy](), list[Planted]()
    with (folder / "train.csv").open("w", newline="") as train, (folder / "test.csv").open("w", newline="") as test:
        files = [csv.writer(train), csv.writer(test)]
        counts = [0, 0]

        def write(text: str, label: int, into: int) -> str:
            number = f"{'ab'[into]}{counts[into]}"
            files[into].writerow((number, text, f"label {label}"))
            counts[into] += 1
            return number

        def plant(copy: _Copy) -> None:
            across = dice.random() < ACROSS
            number = write(copy.text, copy.label, int(across))
            planted.append(Planted(copy.original, number, copy.similarity, across))

        for file in files:
            file.writerow(("number", "text", "label"))
        for i, text in enumerate(texts(corpora, size, seed)):
            into = int(i % 50 == 0)
            label = i // 50 % LABELS
            number = write(text, label, into)
            waiting += _copies(text, label, number, dice) if not into else ()
            if waiting and dice.random() < COPIES:
                plant(waiting.pop(dice.randrange(len(waiting))))
        for copy in waiting:
            plant(copy)
    return planted


def write_raw(path: Path, corpora: Path, size: int, seed: int = 1) -> list[Planted]:
    """Write JSON Lines, a document of six paragraphs each, and return the planted pairs (numbers ``line:paragraph``)."""
    dice, waiting, planted, document = random.Random(seed), list[_Copy](), list[Planted](), list[str]()
    line = 1

    def add(stream: TextIO, text: str) -> str:
        nonlocal line
        number = f"{line}:{len(document)}"
        document.append(text)
        if len(document) == DOCUMENT_PARAGRAPHS:
            stream.write(json.dumps({"text": "\n\n".join(document)}, ensure_ascii=False) + "\n")
            document.clear()
            line += 1
        return number

    with path.open("w") as stream:
        for text in texts(corpora, size, seed):
            number = add(stream, text)
            waiting += _copies(text, 0, number, dice)
            if waiting and dice.random() < COPIES:
                copy = waiting.pop(dice.randrange(len(waiting)))
                planted.append(Planted(copy.original, add(stream, copy.text), copy.similarity, False))
        if document:
            stream.write(json.dumps({"text": "\n\n".join(document)}, ensure_ascii=False) + "\n")
    return planted
