import datetime
import math

import pytest
from undercut.ingest.clean import Rejected, as_string, clean_extra, clean_label, clean_text, read_time, text_keys
from undercut.ingest.rules import BAD_LABEL, BAD_TEXT, BAD_UTF8, CONTROL, NO_LABEL, NO_TEXT, REPAIR_BITS, TOO_LONG


@pytest.mark.parametrize(
    ("value", "text", "repairs"),
    [
        ("where is it", "where is it", 0),
        ("  where \t is\u00a0\u2028it\r\n", "where is it", 0),
        ("nul\x00and bell\x07", "nuland bell", REPAIR_BITS[CONTROL]),
        ("\ufeffmark", "mark", REPAIR_BITS[CONTROL]),
        ("form\x0cfeed \x1c sep", "form feed sep", 0),
        (b"caf\xc3\xa9 ol\xe9", "café ol\ufffd", REPAIR_BITS[BAD_UTF8]),
        ("lone \ud83d half", "lone \ufffd half", REPAIR_BITS[BAD_UTF8]),
        (b"bad\xff and nul\x00 both here", "bad\ufffd and nul both here", REPAIR_BITS[BAD_UTF8] | REPAIR_BITS[CONTROL]),
        (42, "42", 0),
        ("🙂 ok", "🙂 ok", 0),
    ],
)
def test_text_is_cleaned(value: object, text: str, repairs: int) -> None:
    assert clean_text(value, 100) == (text, repairs)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, NO_TEXT),
        ("", NO_TEXT),
        (" \t\u00a0", NO_TEXT),
        ("\x00\x01", NO_TEXT),
        (math.nan, NO_TEXT),
        (["a", "b"], BAD_TEXT),
        ({"a": 1}, BAD_TEXT),
        (b"\xff\xfeh\xe9 \xe8\xe0", BAD_UTF8),
        ("x" * 21, TOO_LONG),
    ],
)
def test_text_is_rejected(value: object, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        clean_text(value, 20)


def test_the_share_of_bad_characters_decides() -> None:
    assert clean_text(b"1234\xff", 100)[0] == "1234\ufffd"
    with pytest.raises(Rejected, match=BAD_UTF8):
        clean_text(b"123\xff", 100)


def test_a_text_at_the_limit_is_kept_after_white_space_went() -> None:
    assert clean_text("x" * 20 + "   ", 20)[0] == "x" * 20


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((" card_arrival ", "card_arrival"), (1, "1"), (1.0, "1"), ("1.0", "1"), ("-2.00", "-2"), ("0.5", "0.5")),
        *(
            (0.5, "0.5"),
            (True, "true"),
            ("v1.0", "v1.0"),
            ("none", "none"),
            ("two\nlines", "two lines"),
            (b"gut", "gut"),
        ),
    ],
)
def test_label_is_a_trimmed_string(value: object, label: str) -> None:
    assert clean_label(value) == label


@pytest.mark.parametrize(
    ("value", "reason"),
    [(v, NO_LABEL) for v in (None, "", "  ", math.nan, "NaN", "nan", "null", "N/A", "#N/A", "<NA>", "\x00")]
    + [(v, BAD_LABEL) for v in (["a"], {"a": 1}, b"b\xfcro", "x" * 201)],
)
def test_label_is_rejected(value: object, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        clean_label(value)


def test_extras_are_strings_or_absent() -> None:
    values = ["en", " ", "", None, 3.0, math.nan, True, ["a", 1], "\ud800x\x00", datetime.date(2026, 1, 2)]
    assert [clean_extra(v) for v in values] == [
        "en",
        None,
        None,
        None,
        "3",
        None,
        "true",
        '["a", 1]',
        "\ufffdx",
        "2026-01-02",
    ]
    assert as_string(b"\xff") == "\udcff"


def same_text(a: str, b: str) -> bool:
    return text_keys(a)[0] == text_keys(b)[0]


def same_words(a: str, b: str) -> bool:
    return text_keys(a)[1] == text_keys(b)[1]


def test_keys_of_texts_and_words() -> None:
    assert same_text("Where is my CARD?", "where is my card?")
    assert same_text("\uff37here \u2460 stra\u00dfe", "where 1 STRASSE")
    assert not same_text("top-up", "top up")
    assert same_words("Can I top-up, please?", "can i top up please")
    assert same_words("\u54ea\u91cc\uff1f", "\u54ea\u91cc?")
    assert not same_words("\u0915\u0940", "\u0915\u093e")  # two Hindi vowel signs
    assert not same_words("good 🙂", "good 🙁")
    assert not same_words("!!!", "???")
    assert same_words("!!!", "!!!")


def test_the_words_key_is_the_same_in_every_run() -> None:
    assert text_keys("Where is my card?")[1] == 5592922768451558456


def test_times() -> None:
    assert read_time("1970-01-02") == 86400
    assert read_time("1970-01-01T01:00:00+01:00") == 0
    assert read_time("1970-01-01 00:00:01Z") == 1
    assert read_time(17.5) == read_time(" 17.5 ") == 17.5
    assert read_time(datetime.datetime(1970, 1, 1, 0, 1)) == 60
    assert read_time("0001-01-01") == -62135596800
    assert [read_time(v) for v in (None, "", "soon", "nan", "inf", "31/12/2025", ["x"])] == [None] * 7
