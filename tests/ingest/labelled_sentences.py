"""Sentences in which the personal data is marked, and how much of it a finder finds."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = re.compile(r"\[\[([A-Z]+):(.*?)\]\]")
Span = tuple[str, int, int]  # kind, start, end


@dataclass
class Score:
    """How much was there and found; ``missed`` and ``wrong`` say what was not, and what was found without being there."""

    marked: int = 0
    hidden: int = 0
    named: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Return the share of the marked data that is found as a whole, under whatever name."""
        return self.hidden / self.marked

    @property
    def precision(self) -> float:
        """Return the share of what is found that is marked and takes no letter or digit more."""
        return 1 - len(self.wrong) / self.found


def read(name: str) -> list[tuple[str, list[Span]]]:
    """Return a fixture's sentences without the marks, and where the marked data stands."""
    sentences = []
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("# "):
            continue
        text, spans, last = "", list[Span](), 0
        for match in MARK.finditer(line):
            text += line[last : match.start()]
            spans.append((match[1], len(text), len(text) + len(match[2])))
            text, last = text + match[2], match.end()
        sentences.append((text + line[last:], spans))
    return sentences


def score(sentences: Sequence[tuple[str, list[Span]]], find: Callable[[str], Sequence[Span]]) -> Score:
    """Return how well ``find`` finds the marked data."""
    result = Score()
    for text, marked in sentences:
        found = find(text)
        covered = {i for _, start, end in found for i in range(start, end)}
        inside = {i for _, start, end in marked for i in range(start, end)}
        for kind, start, end in marked:
            result.marked += 1
            result.hidden += covered.issuperset(range(start, end))
            result.named += any(k == kind and s <= start and end <= e for k, s, e in found)
            if not covered.issuperset(range(start, end)):
                result.missed.append(f"{kind}: {text[start:end]}")
        for kind, start, end in found:
            result.found += 1
            more = any(text[i].isalnum() for i in range(start, end) if i not in inside)
            if more or inside.isdisjoint(range(start, end)):
                result.wrong.append(f"{kind}: {text[start:end]}")
    return result
