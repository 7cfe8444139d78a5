"""The forms of personal data: a pattern finds where one may stand, a check says where it ends, or that it is none.

Check digits are checked wherever a form has them: IBANs (ISO 13616, ISO 7064 mod 97), cards (ISO 7812, Luhn, with the
networks' prefixes and lengths), Chinese identity numbers (GB 11643, ISO 7064 mod 11-2). US social security numbers
have none; the ranges that were never given out (SSA, 2011) are left alone.

Words are Latin here: Chinese and Japanese put no space between a word and a number, so that their characters end one.
"""

import contextlib
import ipaddress
import re
from collections.abc import Callable
from datetime import date

# Where a form may not begin or end: within a word or number of Latin letters.
_WORD = r"0-9A-Za-z_\u00c0-\u024f"
_NOT_URL = r"\s<>\"'\u2018-\u201d\u2e80-\U0010ffff"  # Chinese, Japanese and Korean text ends an address
_START, _END = rf"(?<![{_WORD}])", rf"(?![{_WORD}])"

URL = re.compile(rf"(?:(?:https?|ftp)://|www\.)[^{_NOT_URL}]*[^{_NOT_URL}.,;:!?)\]]", re.IGNORECASE)
EMAIL = re.compile(
    rf"(?<![{_WORD}.+%&~'-])[{_WORD}][{_WORD}.+%&~'-]*@"
    rf"[0-9A-Za-z\u00c0-\u024f][0-9A-Za-z\u00c0-\u024f-]*(?:\.[0-9A-Za-z\u00c0-\u024f-]+)*\.[A-Za-z][0-9A-Za-z-]*[0-9A-Za-z]"
)
IBAN = re.compile(rf"{_START}[A-Za-z]{{2}}\d{{2}}(?=[ -]?[0-9A-Za-z]{{4}})")
IDENTITY = re.compile(
    rf"{_START}(?:[1-9]\d{{5}}(?:19|20)\d{{9}}[\dXx]|"  # Chinese: place, birthday, serial number, check digit
    rf"(?<!-)(?!000|666|9)\d{{3}}(?P<gap>[ -]?)(?!00)\d{{2}}(?P=gap)(?!0000)\d{{4}}(?!-)){_END}"  # US
)
CARD = re.compile(
    rf"(?<![{_WORD}.-])(?:\d{{4}}(?P<gap>[ -]?)\d{{4}}(?P=gap)\d{{4}}(?P=gap)\d{{1,4}}(?:(?P=gap)\d{{1,3}})?|"
    rf"\d{{4}}(?P<wide>[ -])\d{{6}}(?P=wide)\d{{4,5}}|\d{{13,19}})(?![{_WORD}-])"
)
IP4 = re.compile(rf"(?<![{_WORD}.+-])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![{_WORD}])(?!\.\d)")
IP6 = re.compile(
    rf"(?<![{_WORD}.:])(?:[\dA-Fa-f]{{0,4}}:){{2,7}}(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[\dA-Fa-f]{{0,4}})(?![{_WORD}:])"
)
TELEPHONE = re.compile(
    rf"(?<![{_WORD}+.-])(?<!\d[ /])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}|"  # +49 (30) 1234-567
    r"\(0?\d{2,5}\)(?:[ ./-]?\d{2,8}){1,4}|"  # (030) 123 456
    r"0[1-9]\d{0,4}(?:[ /-]\d{2,8}){1,4}|0[1-9](?:\.\d{2}){4}|"  # 030/123456, 06.12.34.56.78
    r"(?:1[ .-])?[2-9]\d{2}[ .-]\d{3}[ .-]\d{4}|"  # 555-123-4567
    r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}|"  # Chinese mobile
    r"[6-9]\d{2}(?: \d{2}){3}|[6-9]\d{2} \d{3} \d{3}|"  # Spanish
    rf"\d{{7,12}})(?![{_WORD}-])"
)

_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
# The card networks' prefixes, and how many digits their numbers have.
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"(?:30[0-5]|3[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12,15}|(?:6011|64[4-9]\d|65\d\d|62\d\d|81\d\d|220[0-4])\d{12,15}|"
    r"(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"
)
_VERSION_BEFORE = re.compile(
    r"(?:version|release|build|firmware|section|chapter|kapitel|abschnitt|版本|\bv(?:er)?)[ .:]*$", re.IGNORECASE
)
_SOCIAL_BEFORE = re.compile(r"\b(?:ssn|social)\b\D{0,20}$", re.IGNORECASE)
_CALL_BEFORE = re.compile(
    r"(?:\b(?:call|dial|phone|tele|tel|mobile|mobil|cell|fax|ring|text|whatsapp|handy|anruf|ruf|appel|llám|llam|móvil|chiam)"
    r"|电话|手机|电話|電話|座机)[^\d\n]{0,14}$",
    re.IGNORECASE,
)
_ISBN_BEFORE = re.compile(r"isbn\W{0,3}$", re.IGNORECASE)
_DATE = re.compile(r"\d{1,2}[ /-]\d{1,2}[ /-](?:19|20)\d\d")
_MOBILE = re.compile(r"0[1-9]\d{8,9}|1[3-9]\d{9}")
_GERMAN_MOBILE = re.compile(r"01[5-7]\d{8,10}")
_CONTEXT = 40
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

# Of a text and a match in it, the end of what stands there, or 0 where it only looks like it.
Check = Callable[[str, "re.Match[str]"], int]


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def whole(_text: str, match: "re.Match[str]") -> int:
    """Take what the pattern found."""
    return match.end()


def iban(text: str, match: "re.Match[str]") -> int:
    """Read as many letters and digits as the country's IBANs have, in groups or not."""
    length, compact, at = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0), "", match.start()
    while at < len(text) and len(compact) < length:
        if text[at].isascii() and text[at].isalnum():
            compact += text[at].upper()
        elif text[at] not in " -" or text[at - 1] in " -":
            return 0
        at += 1
    if not length or len(compact) < length or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return 0
    return at if int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1 else 0


def identity(text: str, match: "re.Match[str]") -> int:
    """Check birthday and check digit of a Chinese number; a US number without dashes needs its name before it."""
    found = match.group().upper()
    if len(found) == 18:
        with contextlib.suppress(ValueError):
            date(int(found[6:10]), int(found[10:12]), int(found[12:14]))
            total = sum(int(c) * weight for c, weight in zip(found, _IDENTITY_WEIGHTS, strict=False))
            return match.end() if found[17] == "10X98765432"[total % 11] else 0
        return 0
    named = match["gap"] == "-" or _SOCIAL_BEFORE.search(text[max(0, match.start() - _CONTEXT) : match.start()])
    return match.end() if named else 0


def card(_text: str, match: "re.Match[str]") -> int:
    """Check prefix, length and Luhn's sum."""
    found = _digits(match.group())
    backwards = [int(c) for c in reversed(found)]
    doubled = [d * 2 - 9 * (d > 4) for d in backwards[1::2]]
    return match.end() if _CARDS.fullmatch(found) and (sum(backwards[::2]) + sum(doubled)) % 10 == 0 else 0


def address(text: str, match: "re.Match[str]") -> int:
    """Check an IP address; four numbers after a word for a version or section are none."""
    found = match.group()
    with contextlib.suppress(ValueError):  # "a::b" is an address, but more often code
        if any(c.isdigit() for c in found) and ipaddress.ip_address(found):
            before = text[max(0, match.start() - _CONTEXT) : match.start()]
            return 0 if ":" not in found and _VERSION_BEFORE.search(before) else match.end()
    return 0


def telephone(text: str, match: "re.Match[str]") -> int:
    """Check the number of digits; a number without any grouping needs a mobile's form or a word before it."""
    found = match.group()
    digits, before = _digits(found), text[max(0, match.start() - _CONTEXT) : match.start()]
    if not 8 <= len(digits) <= 15 or _DATE.fullmatch(found) or _ISBN_BEFORE.search(before):
        return 0
    if digits == found or re.fullmatch(r"[6-9]\d\d \d{3} \d{3}", found):  # 612 345 678 may be an amount
        bare = _MOBILE.fullmatch(found) or _GERMAN_MOBILE.fullmatch(found)
        abroad = found.startswith("00") and len(digits) >= 12
        return match.end() if bare or abroad or _CALL_BEFORE.search(before) else 0
    return match.end()
