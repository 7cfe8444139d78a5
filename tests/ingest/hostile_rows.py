"""A hundred thousand hostile rows in every format, and what must become of each: kept, or rejected under a reason.

Each trap says so itself; nothing of it is computed by the code under test. The rows between the traps are good ones.
"""

import gzip
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 100_000
MAX_CHARACTERS = 1000
HUGE = 60_000_000
KEPT = "kept"
# A trap: its lines (%d is a number of their own), and the fate of each row in them; blank lines are no rows.
Trap = tuple[bytes, tuple[str, ...]]
LONG = b"l" * 3000


def delimited_traps(d: bytes) -> list[Trap]:
    """Traps for a file of text, label, language with this delimiter; what opens a quote is followed by a good row."""
    good = b'"good after quote, %d"' + d + b"label 1" + d + b"en"
    end = d + b"x" + d + b"en"
    return [
        (b'"never closed %d' + end + b"\n" + good, ("unreadable record", KEPT)),
        (b"b" + d + b'"never closed %d\n' + good, ("unreadable record", KEPT)),
        (b'"a %d" b' + end, ("unreadable record",)),
        (b"carriage\rreturn %d" + end, ("unreadable record",)),
        (b'inner %d "quote" of many' + end, (KEPT,)),
        (b'"two\nlines, number %d"' + end, (KEPT,)),
        (b'"three\n\nlines, ""quoted"" %d"' + end, (KEPT,)),
        (b"only %d" + d + b"two", ("wrong number of columns",)),
        (b"more %d" + d + b"b" + d + b"c" + d + b"d" + d + b"e", ("wrong number of columns",)),
        (b"\x00", ("wrong number of columns",)),
        (b"\x1a %d", ("wrong number of columns",)),
        (b'""', ("wrong number of columns",)),
        (d.join((b"text", b"label", b"language")), ("repeated header",)),
        (d.join((b"TEXT", b"Label", b" Language ")), ("repeated header",)),
        (
            d.join((b"id", b"utterance", b"intent")) + b"\n" + good + b"\n" + d.join((b"text", b"label", b"language")),
            ("second schema", "second schema", "repeated header"),
        ),
        (b"\xff\xfe\xfd%d" + end, ("bad UTF-8",)),
        (b"caf\xe9 in latin letters %d" + end, (KEPT,)),
        (b"\xed\xa0\x80 half a surrogate pair in number %d" + end, (KEPT,)),
        (b"bad label %d" + d + b"\xff\xff" + d + b"en", ("unusable label",)),
        (b"long label %d" + d + b"m" * 300 + d + b"en", ("unusable label",)),
        (b"nul\x00\x00 in it %d" + end, (KEPT,)),
        (b"\xef\xbb\xbfbyte order mark %d" + end, (KEPT,)),
        ("\u2028\u0085separators %d".encode() + end, (KEPT,)),
        ("\u202eright to left \U0001f642\U0001f3fd %d".encode() + end, (KEPT,)),
        (b"no label %d" + d + d + b"en", ("missing label",)),
        (b"nan label %d" + d + b"NaN" + d + b"en", ("missing label",)),
        (b"null label %d" + d + b" NULL " + d + b"en", ("missing label",)),
        (b"number of a label %d" + d + b"1" + d + b"en", (KEPT,)),
        (b"the same as a float %d" + d + b"1.0" + d + b"en", (KEPT,)),
        (b" \x00 " + end, ("missing text",)),
        (LONG + b" %d" + end, ("too long",)),
        (b"", ()),
        (b"   ", ()),
        (b"\x0c", ()),
        (b"\r", ()),
    ]


JSON_TRAPS: list[Trap] = [
    (b'{"text": "cut short %d"', ("unparsable JSON",)),
    (b"[]", ("unparsable JSON",)),
    (b"7", ("unparsable JSON",)),
    (b"null", ("unparsable JSON",)),
    (b'"text %d"', ("unparsable JSON",)),
    (b"nope %d", ("unparsable JSON",)),
    (b"[" * 5000, ("unparsable JSON",)),
    (b"\x00", ("unparsable JSON",)),
    (b'{"text": "a %d", "label": "x"} trailing', ("unparsable JSON",)),
    (b"{'text': 'a %d'}", ("unparsable JSON",)),
    (b'{"text": 1' + b"0" * 5000 + b', "label": "x %d"}', ("unparsable JSON",)),
    (b"\xef\xbb\xbf{}", ("unparsable JSON",)),
    (b"{}", ("missing label",)),
    (b'{"text": "a %d"}', ("missing label",)),
    (b'{"text": "b %d", "label": NaN}', ("missing label",)),
    (b'{"text": "c %d", "label": null}', ("missing label",)),
    (b'{"text": "d %d", "label": ""}', ("missing label",)),
    (b'{"text": "e %d", "label": {"x": 1}}', ("unusable label",)),
    (b'{"text": "f %d", "label": "\\ud800"}', ("unusable label",)),
    (b'{"text": null, "label": "x"}', ("missing text",)),
    (b'{"text": NaN, "label": "x"}', ("missing text",)),
    (b'{"label": "x"}', ("missing text",)),
    (b'{"text": ["list %d"], "label": "x"}', ("unusable text",)),
    (b'{"text": {"a": %d}, "label": "x"}', ("unusable text",)),
    (b'{"utterance": "other %d", "intent": "x"}', ("second schema",)),
    (b'{"text": "\\ud800\\ud800 %d", "label": "x"}', ("bad UTF-8",)),
    (b'{"text": "' + LONG + b' %d", "label": "x"}', ("too long",)),
    (b'{"text": "half \\ud800 of a pair, number %d", "label": "x"}', (KEPT,)),
    (b'{"text": "one bad byte \xff in number %d", "label": "x"}', (KEPT,)),
    (b'{"text": "another key %d", "label": "x", "more": 1}', (KEPT,)),
    (b'{"text": %d, "label": 1}', (KEPT,)),
    (b'{"text": %d.5, "label": 1.0}', (KEPT,)),
    (b'{"text": "true %d", "label": true}', (KEPT,)),
    (b'{"text": "infinite %d", "label": 1e999}', (KEPT,)),
    (b'{"text": "t", "text": "twice the key %d", "label": "x"}', (KEPT,)),
    (b'{"text": "n\\u0000ul %d", "label": "x"}', (KEPT,)),
    (b'{"text": "nested %d", "label": "x", "language": {"a": [1, 2]}}', (KEPT,)),
    (b"   ", ()),
    (b"", ()),
]

# Paragraphs of raw text.
RAW_TRAPS: list[Trap] = [
    (b"\xff\xfe\xfd%d", ("bad UTF-8",)),
    (b"\x00\x01 \x1a", ("missing text",)),
    (b"The same words!", ("repeated paragraph",)),
    (b"caf\xe9 in latin letters %d", (KEPT,)),
    (b"nul\x00\x00 and \x1a in number %d", (KEPT,)),
    (b"one line\nanother line\r\nthe last of %d", (KEPT,)),
    ("\u2028\u0085separators \u202e %d".encode(), (KEPT,)),
    (b"\xef\xbb\xbfbyte order mark %d", (KEPT,)),
    (b'"quotes, never closed %d', (KEPT,)),
    (b" \t \r", ()),
]


@dataclass
class Hostile:
    """A file that was written, and what must become of its rows."""

    path: Path
    fates: "Counter[str]" = field(default_factory=Counter)

    @property
    def rejected(self) -> dict[str, int]:
        """Return the expected count of each reason."""
        return {reason: count for reason, count in sorted(self.fates.items()) if reason != KEPT}


def _write(path: Path, head: bytes, parts: list[bytes], between: bytes) -> None:
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as stream:
        stream.write(head)
        stream.writelines(part + between for part in parts)


def _lines(traps: list[Trap], good: Callable[[int], bytes], fates: "Counter[str]") -> list[bytes]:
    dice, parts, rows, number = random.Random(0), list[bytes](), 0, 0
    while rows < ROWS:
        number += 1
        line, outcome = (good(number), (KEPT,)) if dice.random() < 0.2 else dice.choice(traps)
        parts.append(line.replace(b"%d", b"%d" % number))
        fates.update(outcome)
        rows += len(outcome)
    return parts


def write_delimited(path: Path, d: bytes) -> Hostile:
    """Write a CSV or TSV file; at its end repeats, labels in conflict, a rare label and a line of 60 MB."""
    hostile = Hostile(path)
    parts = _lines(
        delimited_traps(d), lambda i: b'"good, number %d"' % i + d + b"label %d" % (i % 3) + d + b"en", hostile.fates
    )
    rows = [
        (b"Same text", b"x"),
        (b"same  TEXT", b"x"),
        (b"in conflict", b"x"),
        (b"In conflict", b"y"),
        (b"rare", b"zzz"),
    ]
    parts += [d.join((*row, b"en")) for row in rows] + [
        b"h" * HUGE + d + b"x" + d + b"en",
        b"the last" + d + b"x" + d + b"en",
    ]
    hostile.fates.update([KEPT, "duplicate", "conflicting labels", "conflicting labels", "rare label"])
    hostile.fates.update(["unreadable record", KEPT])  # beyond the longest field
    _write(path, d.join((b"text", b"label", b"language")) + b"\n", parts, b"\n")
    return hostile


def write_json(path: Path) -> Hostile:
    """Write JSON Lines, with a line of 60 MB at the end."""
    hostile = Hostile(path)
    first = b'{"text": "the first", "label": "x", "language": "en"}\n'
    parts = _lines(
        JSON_TRAPS, lambda i: b'{"text": "good, number %d", "label": "label %d"}' % (i, i % 3), hostile.fates
    )
    parts += [b'{"label": "x", "text": "' + b"h" * HUGE + b'"}', b'{"text": "the last", "label": "x"}']
    hostile.fates.update([KEPT, "unparsable JSON", KEPT])
    _write(path, first, parts, b"\n")
    return hostile


def write_parquet(path: Path) -> Hostile:
    """Write bytes as texts, strings as labels, and columns of other types beside them; one value has 60 MB."""
    hostile, dice = Hostile(path), random.Random(0)
    choices: list[tuple[bytes | None, str | None, str]] = [
        (b"good, number %d", "label 1", KEPT),
        (b"nul\x00 in number %d", "x", KEPT),
        (b"one bad byte \xff in number %d", "x", KEPT),
        (b"\xff\xfe\xfd%d", "x", "bad UTF-8"),
        (None, "x", "missing text"),
        (b" \x00 ", "x", "missing text"),
        (LONG + b"%d", "x", "too long"),
        (b"no label %d", None, "missing label"),
        (b"nan label %d", "nan", "missing label"),
        (b"long label %d", "m" * 300, "unusable label"),
    ]
    rows = [dice.choice(choices) for _ in range(ROWS)] + [(b"h" * HUGE, "x", "too long")]
    hostile.fates.update(fate for _, _, fate in rows)
    texts = [text and text.replace(b"%d", b"%d" % i) for i, (text, _, _) in enumerate(rows)]
    nested = [{"a": [i, None]} if i % 2 else None for i in range(len(rows))]
    columns = {
        "text": pa.array(texts, pa.binary()),
        "label": pa.array([label for _, label, _ in rows]).dictionary_encode(),
    }
    more = {"score": [float("nan"), 1.5, None] * (len(rows) // 3) + [0.0] * (len(rows) % 3), "nested": nested}
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    pq.write_table(pa.table(columns | more), plain, row_group_size=20_000)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes(), 1))
        plain.unlink()
    return hostile


def write_raw(path: Path) -> Hostile:
    """Write paragraphs, and at the end a line of 60 MB, which is cut at white space into pieces that are kept.

    It is read in parts of 2**23 characters, so that seven of its words are cut as well.
    """
    hostile = Hostile(path)
    parts = _lines(RAW_TRAPS, lambda i: b"A good paragraph, number %d." % i, hostile.fates)
    huge = b" ".join(b"word%07d" % i + b"h" * 988 for i in range(HUGE // 1000))
    hostile.fates.update({KEPT: HUGE // 1000 + HUGE // 2**23 + 1, "repeated paragraph": -1})  # the first is kept
    _write(path, b"", [*parts, huge], b"\n\n")
    return hostile


def counts(entries: list[dict[str, object]]) -> dict[str, int]:
    """Return a manifest's counts by reason, in alphabetic order."""
    return dict(sorted((str(entry["reason"]), int(str(entry["count"]))) for entry in entries))
