"""Document rules of thumb that tell prose from lists, code, menus and repetition.

The thresholds are those of Gopher's data (Rae et al. 2021, "Scaling Language Models: Methods, Analysis
& Insights from Training Gopher", section A.1.1). Left out are its rule on English stop words, since a
text may be in any language, and its upper bound of 100,000 words, since a file may hold a book.
"""

import re
from array import array
from dataclasses import dataclass, field

import numpy as np

MINIMUM_WORDS = 50
MEAN_WORD_LENGTH = (3.0, 10.0)
MAXIMUM_SYMBOLS = 0.1
MAXIMUM_BULLETS = 0.9
MAXIMUM_ELLIPSES = 0.3
MINIMUM_ALPHABETIC = 0.8
MAXIMUM_REPEATED_LINES = 0.3
# Of a longer document, a file of gigabytes say, so many lines are compared with each other.
COMPARED_LINES = 1 << 20

FEW_WORDS = "few words"
WORD_LENGTH = "odd word length"
SYMBOLS = "many symbols"
LISTS = "bullets or ellipses"
NOT_WORDS = "few alphabetic words"
REPEATED = "repeated lines"

QUALITY_RULES = {
    FEW_WORDS: f"A document of fewer than {MINIMUM_WORDS} words is rejected.",
    WORD_LENGTH: f"A document whose words have fewer than {MEAN_WORD_LENGTH[0]:g} or more than "
    f"{MEAN_WORD_LENGTH[1]:g} characters on average is rejected.",
    SYMBOLS: f"A document with more than {MAXIMUM_SYMBOLS:g} hash signs or ellipses a word is rejected.",
    LISTS: f"A document is rejected if more than {MAXIMUM_BULLETS:.0%} of its lines begin with a bullet, or more "
    f"than {MAXIMUM_ELLIPSES:.0%} end with an ellipsis.",
    NOT_WORDS: f"A document with fewer than {MINIMUM_ALPHABETIC:.0%} of its words holding a letter is rejected.",
    REPEATED: f"A document of whose lines (the first million) more than {MAXIMUM_REPEATED_LINES:.0%} stood in it "
    "before is rejected.",
}

_SYMBOL = re.compile(r"#|\.\.\.|…")
_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = ("•", "-", "*", "‣", "◦", "\u2013")


@dataclass
class Quality:
    """What the rules need of one document, added up paragraph by paragraph (8 bytes a line, 8 MB at most)."""

    all_lines: int = 0

    words: int = 0
    characters: int = 0
    symbols: int = 0
    alphabetic: int = 0
    bullets: int = 0
    ellipses: int = 0
    lines: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, text: str) -> None:
        """Count a paragraph with its line feeds."""
        words = text.split()
        self.words += len(words)
        self.characters += sum(map(len, words))
        self.symbols += len(_SYMBOL.findall(text))
        self.alphabetic += sum(1 for word in words if _LETTER.search(word))
        for line in text.split("\n"):
            if line := line.strip():
                self.all_lines += 1
                if len(self.lines) < COMPARED_LINES:
                    self.lines.append(hash(line))
                self.bullets += line.startswith(_BULLETS)
                self.ellipses += line.endswith(("...", "…"))

    def fault(self) -> str:
        """Return the first rule that the document breaks, or an empty string."""
        words, lines = max(1, self.words), max(1, self.all_lines)
        repeated = 1 - len(np.unique(np.frombuffer(self.lines, np.int64))) / len(self.lines) if self.lines else 0.0
        broken = {
            FEW_WORDS: self.words < MINIMUM_WORDS,
            WORD_LENGTH: not MEAN_WORD_LENGTH[0] <= self.characters / words <= MEAN_WORD_LENGTH[1],
            SYMBOLS: self.symbols > MAXIMUM_SYMBOLS * words,
            LISTS: self.bullets > MAXIMUM_BULLETS * lines or self.ellipses > MAXIMUM_ELLIPSES * lines,
            NOT_WORDS: self.alphabetic < MINIMUM_ALPHABETIC * words,
            REPEATED: repeated > MAXIMUM_REPEATED_LINES,
        }
        return next((reason for reason, holds in broken.items() if holds), "")
