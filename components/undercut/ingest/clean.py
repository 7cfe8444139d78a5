"""Row rules: what a value is as text, as a label, as a time; and the key by which texts are compared."""

import hashlib
import json
import math
import re
import unicodedata
from datetime import UTC, datetime

from undercut.ingest.rules import (
    BAD_LABEL,
    BAD_TEXT,
    BAD_UTF8,
    BAD_UTF8_SHARE,
    CONTROL,
    MAX_LABEL_CHARACTERS,
    MISSING_LABELS,
    NO_LABEL,
    NO_TEXT,
    REPAIR_BITS,
    TOO_LONG,
)

_SURROGATES = re.compile("[\ud800-\udfff]")
# Control characters that are not white space; white space among them is collapsed like any other.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0+")
_REPLACEMENT = "\ufffd"
_64_BITS = 2**64 - 1


class Rejected(Exception):
    """A row that a rule rejects; its argument is the reason."""


def as_string(value: object) -> str | None:
    """Return a single value as a string; None for an absent one, NaN, a list or a mapping.

    Whole floats lose their point ("1", not "1.0"), truth values are written as in JSON. Bytes that
    are not UTF-8 become lone surrogates (PEP 383).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return None if value is None or isinstance(value, list | dict) else str(value)


def clean_text(value: object, max_characters: int) -> tuple[str, int]:
    """Return the cleaned text and the bits of the repairs it needed.

    Raises:
        Rejected: the text is missing, too long, or mostly bad UTF-8.
    """
    text = as_string(value)
    if text is None:
        raise Rejected(BAD_TEXT if isinstance(value, list | dict) else NO_TEXT)
    repairs = 0
    if not text.isprintable():
        text, repairs = _mend(text)
    text = " ".join(text.split())
    if not text:
        raise Rejected(NO_TEXT)
    if len(text) > max_characters:
        raise Rejected(TOO_LONG)
    return text, repairs


def _mend(text: str) -> tuple[str, int]:
    repairs = 0
    if not text.isascii() and (bad := len(_SURROGATES.findall(text))):
        if bad > BAD_UTF8_SHARE * len(text):
            raise Rejected(BAD_UTF8)
        text, repairs = _SURROGATES.sub(_REPLACEMENT, text), REPAIR_BITS[BAD_UTF8]
    mended = _CONTROLS.sub("", text)
    return mended, repairs | (REPAIR_BITS[CONTROL] if len(mended) < len(text) else 0)


def clean_label(value: object) -> str:
    """Return the label as a trimmed string.

    Raises:
        Rejected: the label is missing, or cannot be one.
    """
    label = as_string(value)
    if label is None:
        raise Rejected(BAD_LABEL if isinstance(value, list | dict) else NO_LABEL)
    label = " ".join(_CONTROLS.sub("", label).split())
    if label.casefold() in MISSING_LABELS:
        raise Rejected(NO_LABEL)
    if len(label) > MAX_LABEL_CHARACTERS or _SURROGATES.search(label):
        raise Rejected(BAD_LABEL)
    whole = _WHOLE_FLOAT.fullmatch(label)
    return whole.group(1) if whole else label


def clean_extra(value: object) -> str | None:
    """Return any other column's value as a string for slices; None for an absent or empty one."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = as_string(value)
    if text and not text.isprintable():
        text = _CONTROLS.sub("", _SURROGATES.sub(_REPLACEMENT, text))
    return (text.strip() or None) if text else None


def text_keys(text: str) -> tuple[int, int]:
    """Return two 64-bit keys of a cleaned text: one for the same text, one for the same words.

    Texts are the same under NFKC, case folding and collapsed white space; words without punctuation as
    well. The first is Python's own hash, good in this process only; the second, BLAKE2b, is the same in
    every run. Of a hundred million texts two different ones share a key with probability 0.03 %.
    """
    folded = text.casefold() if text.isascii() else " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    words = " ".join(folded.translate(_PUNCTUATION_TO_SPACE).split()) or folded
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    return hash(folded) & _64_BITS, int.from_bytes(digest, "little")


class _PunctuationToSpace(dict[int, int]):
    """A table for ``str.translate``, filled as characters are met."""

    def __missing__(self, code: int) -> int:
        self[code] = ord(" ") if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_PUNCTUATION_TO_SPACE = _PunctuationToSpace()


def read_time(value: object) -> float | None:
    """Return seconds since the epoch from ISO 8601 (UTC if it names no zone) or the number itself."""
    text = as_string(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return number if math.isfinite(number) else None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
