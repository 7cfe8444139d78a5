import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut.errors import ConfigurationError
from undercut.ingest import lines
from undercut.ingest.read import Record, open_source
from undercut.ingest.rules import COLUMNS, HEADER, JSON, KEYS, REPAIR_BITS, SCHEMA, UNREADABLE


def records(path: Path, content: bytes | str, text_column: str = "", label_column: str = "") -> list[Record]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = open_source("source", str(path), text_column, label_column)
    return list(source.reader.records(source.text, source.label, 100))


def brief(found: list[Record]) -> list[tuple[int, str]]:
    """Line and fault, or line and first value."""
    return [(r.line, r.fault or str(r.values[0])) for r in found]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    content = '\ufefftext,label\r\n\r\na,x\r\n"b\nb\n""b""",y\r\n   \n"c, c",z\nd,x'
    found = records(tmp_path / "a.csv", content)
    assert brief(found) == [(3, "a"), (4, 'b\nb\n"b"'), (8, "c, c"), (9, "d")]


def test_a_stray_quote_costs_one_line(tmp_path: Path) -> None:
    content = 'text,label\na,x\n"b,x\nc,x\nd,x\n"e" f,x\ng,x\n'
    assert brief(records(tmp_path / "a.csv", content)) == [
        *((2, "a"), (3, UNREADABLE), (4, "c"), (5, "d"), (6, UNREADABLE), (7, "g")),
    ]


def test_two_stray_quotes_do_not_swallow_the_rows_between(tmp_path: Path) -> None:
    columns = 'text,label\na,x\nb,"x\nc,x\nd,x",x\ne,x\n'
    assert brief(records(tmp_path / "a.csv", columns)) == [(2, "a"), (3, UNREADABLE), (4, "c"), (5, COLUMNS), (6, "e")]
    label = 'text,label\na,x\nb,"x\nc,x\nd,x"\ne,x\n'
    assert brief(records(tmp_path / "b.csv", label)) == [(2, "a"), (3, UNREADABLE), (4, "c"), (5, "d"), (6, "e")]
    long = 'text,label\n"a,x\n' + "filler text,x\n" * 10 + 'b",x\nc,x\n'
    found = brief(records(tmp_path / "c.csv", long))
    assert found == [(2, UNREADABLE), *((i, "filler text") for i in range(3, 13)), (13, 'b"'), (14, "c")]


def test_an_endless_field_ends_at_the_limit(tmp_path: Path) -> None:
    content = 'text,label\n"a,x\n' + "b,x\n" * 50_000
    found = records(tmp_path / "a.csv", content)
    assert len(found) == 50_001
    assert [r.fault for r in found[:3]] == [UNREADABLE, "", ""]
    assert found[-1].line == 50_002


def test_wrong_number_of_columns_and_carriage_returns(tmp_path: Path) -> None:
    content = "id,text,label\n1,a,x\n2,b\n3,c,x,\n4,d\rd,x\n5,e,x\n"
    assert brief(records(tmp_path / "a.csv", content)) == [
        (2, "1"),
        (3, COLUMNS),
        (4, COLUMNS),
        (5, UNREADABLE),
        (6, "5"),
    ]


def test_a_repeated_and_a_different_header(tmp_path: Path) -> None:
    content = "text,label\na,x\nText ,LABEL\nb,x\nlabel,text\nx,c\nx,d\ntext,label\ne,x\nid,utterance,intent\n1,f,x\n"
    assert brief(records(tmp_path / "a.csv", content)) == [
        *((2, "a"), (3, HEADER), (4, "b"), (5, SCHEMA), (6, SCHEMA), (7, SCHEMA), (8, HEADER), (9, "e")),
        *((10, SCHEMA), (11, SCHEMA)),
    ]


def test_rows_that_only_mention_column_names_are_rows(tmp_path: Path) -> None:
    content = "text,label\nmessage,x\nwhat is a label,category\ntext,y\n"
    assert [r.fault for r in records(tmp_path / "a.csv", content)] == ["", "", ""]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    content = f'text{delimiter}label\n"a{delimiter}a"{delimiter}x\n'
    for name in ("a.csv", "a.TSV"):
        assert list(records(tmp_path / name, content)[0].values) == [f"a{delimiter}a", "x"]


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        *("not json, before the first object", '{"text": "a", "label": 1, "n": null}', "", '{"label": 2, "text": "b"}'),
        *('{"text": "c"', "[1, 2]", "7", '{"text": "d", "label": 1, "new": 1}', '{"utterance": "e", "intent": 1}'),
        *('{"text": "f"}', '{"text": "g", "label": NaN}', "[" * 100_000, '{"text": "\\ud83d", "label": 1}'),
    ]
    found = records(tmp_path / "a.jsonl", "\n".join(rows) + "\n")
    kept = "None"
    assert [(r.line, r.fault or str(r.values[1]), r.repair) for r in found] == [
        *((1, JSON, 0), (2, "1", 0), (4, "2", 0), (5, JSON, 0), (6, JSON, 0), (7, JSON, 0)),
        *((8, "1", REPAIR_BITS[KEYS]), (9, SCHEMA, 0), (10, kept, 0), (11, "nan", 0), (12, JSON, 0), (13, "1", 0)),
    ]
    assert found[1].values == ["a", 1, None]


def test_parquet_with_categories_and_bad_utf8(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, [None, *pa.array([b"ok", b"b\xff"], pa.binary()).buffers()[1:]])
    labels = pa.array(["x", None]).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "label": labels, "score": [1.0, 2.5]}), tmp_path / "a.parquet")
    found = records(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert found == [Record(1, (b"ok", b"x", 1.0)), Record(2, (b"b\xff", None, 2.5))]


def test_every_format_compressed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["x"]}), tmp_path / "a.parquet")
    contents = {
        "a.csv": b"text,label\na,x\n",
        "a.tsv": b"text\tlabel\na\tx\n",
        "a.jsonl": b'{"text": "a", "label": "x"}\n',
    }
    for name, content in [*contents.items(), ("a.parquet", (tmp_path / "a.parquet").read_bytes())]:
        found = records(tmp_path / f"{name}.gz", gzip.compress(content))
        assert [v.decode() if isinstance(v, bytes) else v for v in found[0].values] == ["a", "x"]


def test_position_ends_at_the_files_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"".join(b"text %d,x\n" % i for i in range(50_000))))
    source = open_source("source", str(path), "", "")
    positions = [source.reader.position for _ in source.reader.records(source.text, source.label, 100)]
    assert positions == sorted(positions)
    assert positions[-1] == path.stat().st_size


def test_a_line_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    content = "text,label\na,x\n" + "b" * 1000 + ",x\n" + "c," * 500 + "\nd,x\n"
    found = records(tmp_path / "a.csv", content)
    assert [(r.line, r.fault, len("".join(map(str, r.values)))) for r in found] == [
        *((2, "", 2), (3, COLUMNS, 100), (4, COLUMNS, 50), (5, "", 2)),
    ]
    row = json.dumps({"text": "b" * 1000, "label": "x"})
    found = records(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n' + row + '\n{"text": "c", "label": "x"}\n')
    assert [(r.line, r.fault) for r in found] == [(1, ""), (2, JSON), (3, "")]


def test_a_record_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_LINES", 20)
    found = records(tmp_path / "a.csv", 'text,label\n"a\n' + '","\n' * 100 + "b,x\n")
    assert brief(found) == [(2, UNREADABLE), *((i, COLUMNS) for i in range(3, 103)), (103, "b")]


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("label,text", 1, 0),
        ("category,text,label,title", 1, 2),
        ("Utterance, Intent", 0, 1),
        ("id,headline,sentiment", 1, 2),
        ("TARGET,query", 1, 0),
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, header: str, text: int, label: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + ",".join("abcd"[: header.count(",") + 1]) + "\n")
    source = open_source("source", str(path), "", "")
    assert (source.text, source.label) == (text, label)


def test_columns_are_given_and_reserved_names_move(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("row,text,label, My Text ,kind,\n1,2,3,4,5,6\n")
    source = open_source("source", str(path), "my text", "kind")
    assert (source.text, source.label) == (3, 4)
    assert source.extras == {0: "row_", 1: "text_", 2: "label_", 5: "column_6"}


CSV = b"text,label\na,x\n"


@pytest.mark.parametrize(
    ("name", "content", "settings", "error"),
    [
        ("a.csv", b"", {}, r"source: got '.*a.csv'; allowed: a file with rows. It is empty \(0 bytes\)"),
        ("a.csv", b"\n \n\n", {}, "source: .* It is empty"),
        ("a.csv", b"text,label\n\n", {}, "source: .*allowed: a file with rows. It has a header only"),
        ("a.jsonl", b"\n\n", {}, "source: .*allowed: JSON Lines"),
        ("a.json", b'[\n{"text": "a"}\n]\n', {}, "Write one object a line"),
        ("a.xlsx", CSV, {}, "source: .*allowed: a file named .csv, .tsv, .jsonl or .parquet"),
        ("a", CSV, {}, "allowed: a file named .csv"),
        ("a.gz", gzip.compress(CSV), {}, "allowed: a file named .csv"),
        ("a.csv", gzip.compress(CSV), {}, "It looks like a gzip file: let its name end in .gz"),
        ("a.csv.gz", CSV, {}, "allowed: a gzip file, as its name says"),
        ("a.csv.gz", gzip.compress(CSV)[:-9], {}, "allowed: a complete gzip file"),
        ("a.csv", "text,label\na,x\n".encode("utf-16"), {}, "It looks like UTF-16: save it as UTF-8"),
        ("a.csv", b"PK\x03\x04rest", {}, "a zip or Excel file"),
        ("a.parquet", CSV, {}, "allowed: a Parquet file, as its name says"),
        ("a.parquet", b"PAR1 and nothing else", {}, "allowed: a complete Parquet file"),
        (
            "a.csv",
            b"one,two\na,x\n",
            {},
            r"text_column: got ''; allowed: a column of .*: one, two \(none .*\). Set text",
        ),
        ("a.csv", b"text,two\na,x\n", {}, "label_column: got ''; .*: text, two"),
        ("a.csv", b"title,body,label\na,b,x\n", {}, "text_column: .*more than one of title, body"),
        ("a.csv", b"text,intent,category\na,b,x\n", {}, "label_column: .*more than one of intent, category"),
        (
            "a.csv",
            CSV,
            {"text_column": "message"},
            r"text_column: got 'message'; allowed: a column of .*: text, label\.",
        ),
        ("a.csv", CSV, {"label_column": "nope"}, "label_column: got 'nope'"),
        ("a.csv", CSV, {"label_column": "text"}, "label_column: got 'text'; allowed: a column other than the text's"),
        ("a.csv", b"text,Text,label\na,b,x\n", {}, "source: .*columns differ in name. Rename one column 'text'"),
        ("a.csv", b'"text,label\na,x\n', {}, "source: .*a header row on one line"),
    ],
)
def test_a_refused_file(tmp_path: Path, name: str, content: bytes, settings: dict[str, str], error: str) -> None:
    columns = {"text_column": "", "label_column": ""} | settings
    with pytest.raises(ConfigurationError, match=error):
        records(tmp_path / name, content, **columns)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "no.csv"), "hdfs://x/a.csv"):
        with pytest.raises(ConfigurationError, match="test_source: got"):
            open_source("test_source", uri, "", "")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match="allowed: a file named"):
        open_source("source", str(tmp_path / "folder.csv"), "", "")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:2000] + bytes(300) + b[2300:]])
def test_a_file_damaged_in_the_middle(tmp_path: Path, damage) -> None:
    rows = b"".join(b"text number %d,x\n" % (i * 7919 % 100_003) for i in range(20_000))
    with pytest.raises(ConfigurationError, match=r"source: .*allowed: a complete gzip file"):
        records(tmp_path / "a.csv.gz", damage(gzip.compress(b"text,label\n" + rows)))
    texts = [f"text number {i * 7919 % 100_003}" for i in range(20_000)]
    pq.write_table(pa.table({"text": texts, "label": ["x"] * 20_000}), tmp_path / "b.parquet", use_dictionary=False)
    with pytest.raises(ConfigurationError, match=r"source: .*allowed: a complete Parquet file"):
        records(tmp_path / "b.parquet", damage((tmp_path / "b.parquet").read_bytes()))
