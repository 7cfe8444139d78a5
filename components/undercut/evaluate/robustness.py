"""Robustness: the same test rows as hurried people type them, seeded, and how much accuracy that costs.

The kinds of noise are those of Belinkov & Bisk 2018 (neighbouring keys, swapped letters) and of
everyday chat: dropped letters, all capitals, no capitals, no punctuation.
"""

import random
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut import events
from undercut.intervals import accuracy_interval, paired_difference
from undercut.label_sets import predicted, same
from undercut.predictors import Predictor

# One letter in this many is mistyped, and one a text at least.
LETTERS_PER_TYPO = 20
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BATCH = 32


def _neighbours() -> dict[str, str]:
    """Return each key's neighbours on a QWERTY keyboard, whose rows are shifted by about half a key."""
    places = {key: (row, column + row / 2) for row, keys in enumerate(KEYBOARD) for column, key in enumerate(keys)}
    return {
        key: "".join(k for k, (r, c) in places.items() if k != key and abs(r - row) <= 1 and abs(c - column) <= 1)
        for key, (row, column) in places.items()
    }


NEIGHBOURS = _neighbours()


def _places(letters: Sequence[int], chance: random.Random) -> list[int]:
    """Return the places to spoil, last first, so that those before keep their numbers."""
    count = max(1, round(len(letters) / LETTERS_PER_TYPO))
    return sorted(chance.sample(letters, min(count, len(letters))), reverse=True)


def neighbouring_keys(text: str, chance: random.Random) -> str:
    """Replace letters by neighbours on the keyboard."""
    letters = [i for i, c in enumerate(text) if c.lower() in NEIGHBOURS]
    for i in _places(letters, chance):
        key = chance.choice(NEIGHBOURS[text[i].lower()])
        text = text[:i] + (key.upper() if text[i].isupper() else key) + text[i + 1 :]
    return text


def dropped_letters(text: str, chance: random.Random) -> str:
    """Leave letters out, none of a word of one."""
    letters = [i for i, c in enumerate(text) if c.isalpha() and text[max(0, i - 1) : i + 2].strip() != c]
    for i in _places(letters, chance):
        text = text[:i] + text[i + 1 :]
    return text


def swapped_letters(text: str, chance: random.Random) -> str:
    """Swap neighbouring letters that differ."""
    pairs = [i for i in range(len(text) - 1) if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    for i in _places(pairs, chance):
        text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return text


def without_punctuation(text: str, chance: random.Random) -> str:
    """Leave out every character of Unicode's punctuation."""
    return "".join(c for c in text if not unicodedata.category(c).startswith("P"))


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "neighbouring keys": neighbouring_keys,
    "dropped letters": dropped_letters,
    "swapped letters": swapped_letters,
    "upper case": lambda text, _: text.upper(),
    "lower case": lambda text, _: text.lower(),
    "no punctuation": without_punctuation,
}


def perturb(texts: Sequence[str], name: str, seed: int) -> list[str]:
    """Return the texts with one kind of noise; the same text and seed give the same noise."""
    return [PERTURBATIONS[name](text, random.Random(f"{seed} {name} {text}")) for text in texts]


def robustness(
    predictor: Predictor,
    texts: Sequence[str],
    truth: NDArray[np.int64],
    correct: NDArray[np.bool_],
    rows: int,
    confidence: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Measure accuracy under each kind of noise that changes a text at all.

    Args:
        predictor: the candidate.
        texts: test texts.
        truth: their labels, shape (rows,), or zeros and ones, shape (rows, labels).
        correct: whether the candidate gets the text as it is right, shape (rows,).
        rows: how many of them, a seeded sample; 0 measures nothing.
        confidence: of the intervals.
        seed: of sample and noise.

    Returns:
        For each kind: ``perturbation``, ``n``, ``changed`` (texts that differ), ``accuracy``, and
        ``difference`` to the same texts as they are, paired (negative: worse).
    """
    if not rows:
        return []
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[:rows])
    plain = [texts[i] for i in chosen]
    found = []
    for done, name in enumerate(PERTURBATIONS):
        noisy = perturb(plain, name, seed)
        changed = [i for i, (a, b) in enumerate(zip(plain, noisy, strict=True)) if a != b]
        events.progress(done, len(PERTURBATIONS), f"robustness: {name}")
        if not changed:
            continue
        # What stayed as it was is answered as it was.
        right = correct[chosen].copy()
        right[changed] = _right(predictor, [noisy[i] for i in changed], truth[chosen][changed])
        found.append(
            {
                "perturbation": name,
                "n": len(chosen),
                "changed": len(changed),
                "accuracy": accuracy_interval(right, confidence).as_dict(),
                "difference": paired_difference(right, correct[chosen], confidence, seed).as_dict(),
            }
        )
    return found


def _right(predictor: Predictor, texts: Sequence[str], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    right = np.empty(len(texts), dtype=np.bool_)
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), BATCH):
        rows = order[start : start + BATCH]
        right[rows] = same(predicted(predictor, predictor.probabilities([texts[i] for i in rows])), truth[rows])
    return right
