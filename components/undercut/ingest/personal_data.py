"""Personal data in text, found by form and by check digits, and replaced by what kind of thing stood there.

E-mail and web addresses, IBANs, card numbers, identity numbers (US social security, Chinese), IP addresses, telephone
numbers. Names and postal addresses have no form and are not found: this lowers a risk and does not make a text
anonymous. How many are found, and how many wrongly, is pinned on written sentences in
``tests/ingest/test_personal_data.py``.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from undercut.ingest import personal_forms as forms

# In a text without so many digits close together there is no number to mask.
_NUMBER = re.compile(r"\d(?:\D{0,3}\d){7}")
_NUMBERS = (
    ("IBAN", forms.IBAN, forms.iban),
    ("ID", forms.IDENTITY, forms.identity),
    ("CARD", forms.CARD, forms.card),
)


class Found(NamedTuple):
    """What stands in a text from ``start`` to ``end`` (not included)."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Found]:
    """Return the personal data in a text, in the order in which it stands there, none within another."""
    wanted: list[tuple[str, re.Pattern[str], forms.Check]] = []
    if "://" in text or "www." in text or "WWW." in text:
        wanted.append(("URL", forms.URL, forms.whole))
    if "@" in text:
        wanted.append(("EMAIL", forms.EMAIL, forms.whole))
    number = _NUMBER.search(text)
    if number:
        wanted += _NUMBERS
    if text.count(":") > 1:
        wanted.append(("IP", forms.IP6, forms.address))
    if text.count(".") > 2:
        wanted.append(("IP", forms.IP4, forms.address))
    if number:
        wanted.append(("PHONE", forms.TELEPHONE, forms.telephone))
    found = list[Found]()
    for kind, pattern, check in wanted:
        here = [Found(kind, m.start(), end) for m in pattern.finditer(text) if (end := check(text, m))]
        if here:  # what is found is no part of anything else
            text = _replaced(text, here, lambda f: "\0" * (f.end - f.start))
        found += here
    return sorted(found, key=lambda f: f.start)


def _replaced(text: str, found: Sequence[Found], by: Callable[[Found], str]) -> str:
    parts, last = list[str](), 0
    for one in found:
        parts += [text[last : one.start], by(one)]
        last = one.end
    return "".join([*parts, text[last:]])


def mask(text: str, counts: "Counter[str]") -> str:
    """Return the text with ``<EMAIL>`` and the like in place of personal data; count what was replaced."""
    found = find(text)
    if not found:
        return text
    counts.update(f"<{kind}>" for kind, _, _ in found)
    return _replaced(text, found, lambda f: f"<{f.kind}>")
