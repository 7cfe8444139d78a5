"""Where a sentence ends: by its last character, in scripts with and without spaces.

A sentence ends with ``.``, ``!``, ``?`` or ``…`` (and the quotes and brackets that close it) where white
space follows and then no lower-case letter, or with ``。``, ``！`` or ``？`` whatever follows; and where its
paragraph ends, so that a heading is a sentence. Titles and initials (``Dr.``, ``J.``) do not end one. A
wrong cut does little harm where this is used: either half is a sentence that follows the other.
"""

# ruff: noqa: RUF001, RUF002 (the marks are meant as they are)
import re

_TITLES = r"(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMrs)(?<!\bProf)(?<!\bvs)(?<!\b[A-Z])"
_SENTENCE = re.compile(
    rf".+?(?:[。！？]+[”’」』）】]*|{_TITLES}[.!?…]+[\"'”’)\]]*(?=\s+[^\sa-z])|\Z)",
    re.DOTALL,
)


def split_sentences(paragraph: str) -> list[str]:
    """Return a paragraph's sentences in order, each with the white space before it; none is blank."""
    return [found for found in _SENTENCE.findall(paragraph.rstrip()) if found.strip()]
