"""The rules by which rows are rejected or repaired, and the tally of what each rule met.

Every rejected row counts under exactly one reason; a repaired row is kept, and may count under
several repairs. Blank lines are not rows.
"""

from dataclasses import dataclass, field
from typing import Any

MAX_LABEL_CHARACTERS = 200
MINIMUM_LABEL_ROWS = 3
BAD_UTF8_SHARE = 0.2
MISSING_LABELS = frozenset({"", "nan", "null", "n/a", "#n/a", "<na>"})
EXAMPLES = 5
EXAMPLE_CHARACTERS = 160

UNREADABLE = "unreadable record"
COLUMNS = "wrong number of columns"
HEADER = "repeated header"
SCHEMA = "second schema"
JSON = "unparsable JSON"
NO_LABEL = "missing label"
BAD_LABEL = "unusable label"
NO_TEXT = "missing text"
BAD_TEXT = "unusable text"
BAD_UTF8 = "bad UTF-8"
TOO_LONG = "too long"
LANGUAGE = "another language"
NO_SPLIT = "unknown split"
NO_TIME = "unreadable time"
DUPLICATE = "duplicate"
CONFLICT = "conflicting labels"
TWO_SPLITS = "in two splits"
NEAR_DUPLICATE = "near-duplicate"
RARE = "rare label"
UNSEEN = "label not in training"

CONTROL = "control characters"
KEYS = "unknown keys"
MASKED = "personal data"

REJECTED = {
    UNREADABLE: "CSV quotes that do not match or close, a record over several lines that does not fit its columns, or "
    "a field beyond the size limit: the record's first line is rejected and reading goes on at the next line.",
    COLUMNS: "A record with more or fewer fields than the header is rejected.",
    HEADER: "The header standing again among the rows is rejected; the rows after it are read.",
    SCHEMA: "CSV: a row that names a text and a label column, and differs from the header, starts another file; it "
    "is rejected with the rows after it until the first header returns. JSON: a record with unknown keys and "
    "without the text or the label key is rejected.",
    JSON: "A line that is not one JSON object is rejected.",
    NO_LABEL: f"A label that is absent, empty, NaN or one of {', '.join(sorted(MISSING_LABELS - {''}))} is rejected. "
    "Where a row may have several labels, an empty cell or list is a row without any, and is kept.",
    BAD_LABEL: f"A label that is a list or mapping, has bad UTF-8, or is over {MAX_LABEL_CHARACTERS} characters "
    "is rejected; a list is allowed where a row may have several labels.",
    NO_TEXT: "A text that is absent, NaN or empty after cleaning is rejected.",
    BAD_TEXT: "A text that is a list or mapping is rejected.",
    BAD_UTF8: f"A text with more than {BAD_UTF8_SHARE:.0%} of its characters not valid UTF-8 is rejected.",
    TOO_LONG: "A text of more than max_characters is rejected; raise max_characters to keep it.",
    LANGUAGE: "A text that is in none of languages with a probability of at least 0.5 (py3langid) is rejected; one "
    "whose language cannot be told is kept.",
    NO_SPLIT: "A row whose split column says neither train, validation (dev, valid, val) nor test is rejected.",
    NO_TIME: "A row whose time is neither ISO 8601 nor a number is rejected.",
    DUPLICATE: "Of rows with the same text (NFKC, case folded, white space collapsed) and label the first is kept.",
    CONFLICT: "Rows with the same text and different labels in one split are all rejected.",
    NEAR_DUPLICATE: "Of texts whose five-byte shingles overlap by near_duplicates or more (Jaccard similarity, by "
    "MinHash), the first is kept in one split if they have one label; in two splits the text of the later is kept.",
    RARE: f"A label with fewer than {MINIMUM_LABEL_ROWS} rows left can be neither learned nor measured; its rows are "
    "rejected.",
    TWO_SPLITS: "A text whose words (NFKC, case folded, without punctuation) stand in two splits is kept in the later "
    "of train, validation, test and rejected in the earlier.",
    UNSEEN: "A label that stands in no training row cannot be predicted; its validation and test rows are rejected.",
}

REPAIRED = {
    BAD_UTF8: f"Up to {BAD_UTF8_SHARE:.0%} of a text's characters that are not valid UTF-8 become U+FFFD.",
    CONTROL: "NUL, other control characters and byte order marks are removed from the text.",
    KEYS: "Keys that the first JSON record does not have are dropped.",
    MASKED: "E-mail and web addresses, IBANs, card numbers, identity numbers (US, Chinese), IP addresses and telephone "
    "numbers become <EMAIL>, <URL>, <IBAN>, <CARD>, <ID>, <IP>, <PHONE>.",
}

REASONS = tuple(REJECTED)
REPAIRS = tuple(REPAIRED)
REPAIR_BITS = {reason: 1 << bit for bit, reason in enumerate(REPAIRS)}


@dataclass
class Tally:
    """How many rows each rule met, with the first few of them."""

    rules: dict[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> bool:
        """Count rows under a reason; return whether an example of it is still wanted."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        return len(self.examples.setdefault(reason, [])) < EXAMPLES

    def show(self, reason: str, file: str, line: int, text: str) -> None:
        """Keep an example, unless there are enough."""
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            readable = " ".join(text.encode("utf-8", "replace").decode().split())
            shown = readable if len(readable) <= EXAMPLE_CHARACTERS else readable[: EXAMPLE_CHARACTERS - 1] + "…"
            kept.append({"file": file, "line": line, "text": shown})

    @property
    def total(self) -> int:
        """Return the number counted under all reasons."""
        return sum(self.counts.values())

    def content(self) -> list[dict[str, Any]]:
        """Return what the manifest says, in the order of the rules."""
        return [
            {"reason": r, "rule": rule, "count": self.counts[r], "examples": self.examples[r]}
            for r, rule in self.rules.items()
            if self.counts.get(r)
        ]
