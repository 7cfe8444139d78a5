"""Personal data in text, found by form and by check digits, and replaced by what kind of thing stood there.

E-mail and web addresses, IBANs (ISO 13616, check digits by ISO 7064), card numbers (Luhn, ISO 7812), IP
addresses, telephone numbers in international or grouped national form. Names and postal addresses have
no form and are not found: this lowers a risk and does not make a text anonymous.
"""

import contextlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable

_LETTER_VALUES = {chr(ord("A") + i): str(10 + i) for i in range(26)}
# Nothing is masked in a text without one of these: most texts are done with one search.
_SUSPECT = re.compile(r"[@:]|www\.|\d(?:\D{0,3}\d){5}", re.IGNORECASE)


def _anything(_found: str) -> bool:
    return True


def _is_iban(found: str) -> bool:
    compact = found.replace(" ", "")
    digits = "".join(_LETTER_VALUES.get(c, c) for c in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(digits) % 97 == 1


def _is_card(found: str) -> bool:
    digits = [int(c) for c in found if c.isdigit()][::-1]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[1::2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_address(found: str) -> bool:
    with contextlib.suppress(ValueError):  # "a::b" is an address, but more often code
        return any(c.isdigit() for c in found) and bool(ipaddress.ip_address(found))
    return False


def _is_telephone(found: str) -> bool:
    return 8 <= sum(c.isdigit() for c in found) <= 15


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("<URL>", re.compile(r"(?:https?://|www\.)[^\s<>\"']*[^\s<>\"'.,;:!?)\]]", re.IGNORECASE), _anything),
    ("<EMAIL>", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), _anything),
    ("<IBAN>", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_iban),
    ("<CARD>", re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])"), _is_card),
    (
        "<IP>",
        re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[\dA-Fa-f]{0,4}(?::[\dA-Fa-f]{0,4}){2,7})(?![\w:])"),
        _is_address,
    ),
    (
        "<PHONE>",
        re.compile(
            r"(?<![\w+.-])(?<!\d[ /])(?:(?:\+|00)\d{1,3}(?:[ ./-]?\(?\d{1,5}\)?){2,6}|"  # +49 (30) 1234-567
            r"\(0?\d{2,5}\)(?:[ ./-]?\d{2,8}){1,4}|0\d{1,5}(?:[ /-]\d{2,8}){1,4}|"  # (030) 123 456, 030/123456
            r"\d{3}[ .-]\d{3}[ .-]\d{4})(?![\w-])"  # 555-123-4567
        ),
        _is_telephone,
    ),
)


def mask(text: str, counts: "Counter[str]") -> str:
    """Return the text with ``<EMAIL>`` and the like in place of personal data; count what was replaced."""
    if not _SUSPECT.search(text):
        return text
    for name, pattern, holds in _KINDS:

        def replace(match: re.Match[str], name: str = name, holds: Callable[[str], bool] = holds) -> str:
            if not holds(match.group()):
                return match.group()
            counts[name] += 1
            return name

        text = pattern.sub(replace, text)
    return text
