from collections import Counter
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.ingest.personal_data import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann.lee+shop@mail.example.co.uk, please", "write to <EMAIL>, please"),
        ("see https://shop.example/a?b=c&mail=x@y.de. Or www.shop.example!", "see <URL>. Or <URL>!"),
        ("my IBAN is DE89 3704 0044 0532 0130 00 at the bank", "my IBAN is <IBAN> at the bank"),
        ("GB82WEST12345698765432", "<IBAN>"),
        ("card 4111 1111 1111 1111 was charged", "card <CARD> was charged"),
        ("card 5500-0000-0000-0004.", "card <CARD>."),
        ("from 192.168.0.12 and 2001:db8::1", "from <IP> and <IP>"),
        ("call +49 (30) 1234-567 or 555-123-4567", "call <PHONE> or <PHONE>"),
        ("Tel. 030/1234567, (030) 123 456 78, 0171 2345678", "Tel. <PHONE>, <PHONE>, <PHONE>"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    counts: Counter[str] = Counter()
    assert mask(text, counts) == masked
    assert sum(counts.values()) == masked.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "order 4711 of 2026-01-15 at 12:30:45 has not come",
        "order number 4111 1111 1111 1112",  # Luhn fails
        "DE88 3704 0044 0532 0130 00",  # check digits fail
        "version 1.2.3.400 costs 1,299.00 or 1 299 000",
        "the ratio is 16:9:4 and the score 3:2",
        "meet me @ noon: gate 12",
        "2026 01 15 and 1000000000",
        "C++::operator and a::b",
    ],
)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    counts: Counter[str] = Counter()
    assert mask(text, counts) == text
    assert not counts


ENGLISH = "Where is parcel number {}? It should have arrived here yesterday evening, said the letter."
GERMAN = "Wo ist das Paket Nummer {}? Es hätte gestern Abend schon längst hier ankommen sollen."


def write_source(path: Path) -> Path:
    lines = ["text,label,language"]
    lines += [f'"{ENGLISH.format(i)}",{"ab"[i % 2]},web' for i in range(60)]
    lines += [f'"{GERMAN.format(i)}",{"ab"[i % 2]},web' for i in range(20)]
    lines += [f'"ok {i} ann{i}@mail.example",{"ab"[i % 2]},app' for i in range(10)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_only_the_wanted_languages_are_kept(tmp_path: Path) -> None:
    source = write_source(tmp_path / "rows.csv")
    manifest = ingest(IngestConfig(source=str(source), languages="en, FR"), tmp_path / "data")
    (rejected,) = manifest["rejected"]
    assert (rejected["reason"], rejected["count"], rejected["examples"][0]["line"]) == ("another language", 20, 62)
    assert manifest["columns"] == ["language", "language_"]
    tables = [artifacts.read_split(tmp_path / "data", split).to_pylist() for split in manifest["rows"]]
    found = {(row["language"], row["language_"]) for table in tables for row in table}
    assert found == {("web", "en"), ("app", "und")}
    told = ingest(IngestConfig(source=str(source), languages="any"), tmp_path / "any")
    assert told["rows_rejected"] == 0
    assert sum(told["rows"].values()) == 90


def test_masked_rows_are_repairs_and_counted_by_kind(tmp_path: Path) -> None:
    manifest = ingest(IngestConfig(source=str(write_source(tmp_path / "rows.csv")), mask_pii=True), tmp_path / "data")
    (repaired,) = manifest["repaired"]
    assert (repaired["reason"], repaired["count"]) == ("personal data", 10)
    assert repaired["examples"][0]["text"] == "ok 0 <EMAIL>"
    assert manifest["masked"] == {"<EMAIL>": 10}
    plain = ingest(IngestConfig(source=str(tmp_path / "rows.csv")), tmp_path / "plain")
    assert "masked" not in plain


def test_raw_text_obeys_the_same_rules(tmp_path: Path) -> None:
    texts = [ENGLISH.format(i) for i in range(30)] + [GERMAN.format(i) for i in range(5)] + ["mail ann@mail.example"]
    (tmp_path / "raw.txt").write_text("\n\n".join(texts))
    config = IngestConfig(unlabelled_source=str(tmp_path / "raw.txt"), languages="en", mask_pii=True)
    manifest = ingest(config, tmp_path / "data")
    (rejected,) = manifest["unlabelled"]["rejected"]
    assert (rejected["reason"], rejected["count"]) == ("another language", 5)
    assert [(r["reason"], r["count"]) for r in manifest["unlabelled"]["repaired"]] == [("personal data", 1)]
    assert manifest["masked"] == {"<EMAIL>": 1}
    rows = artifacts.read_split(tmp_path / "data", "unlabelled").to_pylist()
    assert {row["language"] for row in rows} <= {"en", "und"}


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    config = IngestConfig(source=str(write_source(tmp_path / "rows.csv")), languages="en,english")
    with pytest.raises(ConfigurationError, match=r"languages: got 'en,english'; allowed: codes .* of any, ace, af, am"):
        ingest(config, tmp_path / "data")
