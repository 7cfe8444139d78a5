"""Files made of hostile rows: every line is accounted for, and the good rows among them survive."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.ingest.read import open_source

from tests.ingest import hostile_rows

CSV_TRAPS = [
    b'"never closed,a,x', b'b,"never closed', b'"a" b,c,d', b'x",y",z"', b'"""', b'""', b',,', b',', b'a,b', b'a,b,c,d,e',
    b'"two\nlines","x","en"', b'"three\n\nlines, with "quotes"",x,en', b'text,label,language', b'TEXT,Label,Language',
    b'\xff\xfe\xfd,x,en', b'caf\xe9 in latin,x,en', b'bad label,\xff\xff,en', b'nul\x00\x00,x,en', b'\x00', b'\x1a', b'\x0c',
    b'carriage\rreturn,x,en', b'\r', b'\r\r', b'   ', b'', b'\t', b'no label,,en', b'nan label,NaN,en', b' ,x,en', b'lone,zzz,en',
    b'Same text,x,en', b'same  TEXT,x,en', b'in conflict,x,en', b'in conflict,y,en', b'=1+1,x,en', b'"a,b",x,en', b"o'clock,x,en",
    b'l' * 3000 + b',x,en', b'ok,' + b'l' * 3000 + b',en', b'q,"' + b'l' * 3000, '\u2028\u0085sep,x,en'.encode(),
    '\u202ertl,x,en'.encode(), '\U0001f642\U0001f3fd,x,en'.encode(), b'\xef\xbb\xbfmark,x,en', b'\xed\xa0\x80 surrogate,x,en',
]  # fmt: skip
JSON_TRAPS = [
    b'{"text": "a"', b'{"text": "a"}', b'{"label": "x"}', b'[]', b'7', b'null', b'"text"', b'{}', b'nope', b'{"text": null, "label": "x"}',
    b'{"text": "a", "label": NaN}', b'{"text": "a", "label": null}', b'{"text": ["a"], "label": "x"}', b'{"text": "a", "label": {"x": 1}}',
    b'{"text": "\\ud800 half", "label": "x"}', b'{"text": "bad \xff here", "label": "x"}', b'{"text": "new", "label": "x", "more": 1}',
    b'{"utterance": "other", "intent": "x"}', b'{"text": "t", "label": 1e999}', b'{"text": "t", "text": "u", "label": "x"}', b'   ', b'',
    b'[' * 5000, b'{"text": "n\\u0000ul", "label": "x"}', b'\x00', b'{"text": 1' + b'0' * 5000 + b', "label": "x"}', b'\xef\xbb\xbf{}',
    b'{"text": "nested", "label": "x", "language": {"a": [1, 2]}}', b'{"text": "a", "label": "x"} trailing', b"{'text': 'a'}",
]  # fmt: skip


def good_csv(i: int) -> bytes:
    """Quoted, so that a quote left open before it shows at once."""
    return b'"good, number %d","label %d",en' % (i, i % 3)


def good_json(i: int) -> bytes:
    return b'{"text": "good, number %d", "label": "label %d", "language": "en"}' % (i, i % 3)


def hostile_lines(traps: list[bytes], good, seed: int, n: int = 4000) -> list[bytes]:
    dice = random.Random(seed)
    return [good(i) if dice.random() < 0.5 else dice.choice(traps) for i in range(n)]


def check_accounts(manifest: artifacts.Manifest, folder: Path) -> None:
    rejected = sum(entry["count"] for entry in manifest["rejected"])
    kept = sum(artifacts.read_split(folder, split).num_rows for split in artifacts.SPLITS)
    assert manifest["rows_rejected"] == rejected
    assert manifest["rows_kept"] == kept == sum(manifest["rows"].values())
    assert manifest["rows_read"] == kept + rejected == sum(source["rows"] for source in manifest["sources"])
    assert {split: sum(labels.values()) for split, labels in manifest["label_counts"].items()} == manifest["rows"]
    for entry in manifest["rejected"] + manifest["repaired"]:
        assert len(entry["examples"]) == min(5, entry["count"])
        assert entry["rule"]


def kept_texts(folder: Path) -> list[str]:
    return [text for split in artifacts.SPLITS for text in artifacts.read_split(folder, split)["text"].to_pylist()]


@pytest.mark.parametrize("seed", range(3))
def test_every_line_of_a_hostile_csv_is_accounted_for(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "hostile.csv"
    header = b"text,label,language\n"
    path.write_bytes(header + good_csv(9999) + b"\n" + b"\n".join(hostile_lines(CSV_TRAPS, good_csv, seed)) + b"\n")
    lines = path.read_bytes().split(b"\n")
    source = open_source("source", str(path), "", "")
    found = list(source.reader.records(source.text, source.label, 1000))
    starts = [record.line for record in found]
    assert starts == sorted(set(starts))
    for record, following in zip(found, [*starts[1:], len(lines) + 1], strict=True):
        inside = [n for n in range(record.line + 1, following) if lines[n - 1].strip()]
        assert not inside or b'"' in lines[record.line - 1], (record, inside)
        if record.fault.startswith("unreadable"):
            assert not inside, "a broken record may cost its first line only"
    manifest = ingest(IngestConfig(source=str(path), max_characters=1000), tmp_path / "data")
    assert manifest["rows_read"] == len(found)
    check_accounts(manifest, tmp_path / "data")
    good = {
        f"good, number {i}" for i, line in enumerate(hostile_lines(CSV_TRAPS, good_csv, seed)) if line == good_csv(i)
    }
    reasons = {entry["reason"] for entry in manifest["rejected"]}
    assert {
        "unreadable record",
        "wrong number of columns",
        "repeated header",
        "conflicting labels",
        "rare label",
    } <= reasons
    assert good <= set(kept_texts(tmp_path / "data"))


@pytest.mark.parametrize("seed", range(3))
def test_every_line_of_hostile_json_is_accounted_for(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "hostile.jsonl"
    lines = [good_json(9999), *hostile_lines(JSON_TRAPS, good_json, seed)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    manifest = ingest(IngestConfig(source=str(path)), tmp_path / "data")
    assert manifest["rows_read"] == sum(bool(line.strip()) for line in lines)
    check_accounts(manifest, tmp_path / "data")
    good = {json.loads(line)["text"] for i, line in enumerate(lines[1:]) if line == good_json(i)}
    assert good <= set(kept_texts(tmp_path / "data"))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.parquet"])
def test_random_damage_is_refused_or_accounted_for(tmp_path: Path, name: str) -> None:
    rows = [(f"good, number {i}", f"label {i % 3}") for i in range(200)]
    if name == "a.parquet":
        texts, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / name)
        content = (tmp_path / name).read_bytes()
    else:
        plain = b"text,label,language\n" + b"\n".join(good_csv(i) for i in range(200))
        content = b"\n".join(good_json(i) for i in range(200)) if name == "a.jsonl" else plain
        content = gzip.compress(content) if name == "a.csv.gz" else content
    outcomes = {"refused": 0, "read": 0}
    for seed in range(40):
        dice, damaged = random.Random(seed), bytearray(content)
        for _ in range(dice.choice((1, 5, 30))):
            start = dice.randrange(len(damaged))
            damaged[start : start + dice.choice((0, 1, 3))] = dice.randbytes(dice.choice((0, 1, 3)))
        (tmp_path / name).write_bytes(damaged)
        try:
            manifest = ingest(IngestConfig(source=str(tmp_path / name)), tmp_path / str(seed))
        except ConfigurationError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            check_accounts(manifest, tmp_path / str(seed))
    assert outcomes["refused" if name in ("a.csv.gz", "a.parquet") else "read"] > 20, outcomes


MEASURE = """
import json, sys
from pathlib import Path
from undercut.costs import peak_memory_bytes
from undercut.ingest.dataset import IngestConfig, ingest
ingest(IngestConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]))
print(peak_memory_bytes() // 2**20)
"""


def ingest_elsewhere(output: Path, **settings: object) -> tuple[artifacts.Manifest, int]:
    """Ingest in a process of its own; return the manifest and the peak memory in MB, without allocators' caches."""
    command = [sys.executable, "-c", MEASURE, json.dumps(settings, default=str), output]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return artifacts.verify(output, artifacts.DATASET), int(done.stdout)


# Of a Parquet file a value is held as a whole, however large: as Arrow, as bytes and as text.
MOST_MEGABYTES = {".csv": 350, ".tsv": 350, ".jsonl": 350, ".parquet": 700, ".txt": 350}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_a_hundred_thousand_hostile_rows(tmp_path: Path, suffix: str, zipped: str) -> None:
    path = tmp_path / f"hostile{suffix}{zipped}"
    write = {
        ".csv": lambda: hostile_rows.write_delimited(path, b","),
        ".tsv": lambda: hostile_rows.write_delimited(path, b"\t"),
        ".jsonl": lambda: hostile_rows.write_json(path),
        ".parquet": lambda: hostile_rows.write_parquet(path),
    }
    hostile = write[suffix]()
    settings = {"source": path, "max_characters": hostile_rows.MAX_CHARACTERS}
    manifest, megabytes = ingest_elsewhere(tmp_path / "data", **settings)
    assert hostile_rows.counts(manifest["rejected"]) == hostile.rejected
    assert manifest["rows_kept"] == hostile.fates[hostile_rows.KEPT]
    assert manifest["rows_read"] == hostile.fates.total() > hostile_rows.ROWS
    check_accounts(manifest, tmp_path / "data")
    assert megabytes < MOST_MEGABYTES[suffix]


@pytest.mark.slow
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_a_hundred_thousand_hostile_paragraphs(tmp_path: Path, zipped: str) -> None:
    (tmp_path / "raw").mkdir()
    hostile = hostile_rows.write_raw(tmp_path / "raw" / f"a.txt{zipped}")
    (tmp_path / "raw" / f"empty.txt{zipped}").touch()
    settings = {"unlabelled_source": tmp_path / "raw", "max_characters": hostile_rows.MAX_CHARACTERS}
    manifest, megabytes = ingest_elsewhere(tmp_path / "data", **settings)
    raw = manifest["unlabelled"]
    assert hostile_rows.counts(raw["rejected"]) == hostile.rejected
    assert raw["paragraphs_kept"] == sum(manifest["rows"].values()) == hostile.fates[hostile_rows.KEPT]
    assert raw["paragraphs_read"] == hostile.fates.total() > hostile_rows.ROWS
    assert sum(raw["characters"].values()) > hostile_rows.HUGE  # nothing of the line of 60 MB is lost
    assert megabytes < MOST_MEGABYTES[".txt"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.parquet.gz"])
@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"\n" * 1000])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"(source|text_column): got"):
        ingest(IngestConfig(source=str(tmp_path / name)), tmp_path / "data")
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(content))
        with pytest.raises(ConfigurationError, match=r"(source|text_column): got"):
            ingest(IngestConfig(source=str(tmp_path / name)), tmp_path / "data")


def test_labels_that_are_numbers_and_nan(tmp_path: Path) -> None:
    labels = [1.0, 2.0, float("nan"), None, float("inf")] * 40
    table = pa.table({"text": [f"text number {i}" for i in range(200)], "label": labels})
    pq.write_table(table, tmp_path / "a.parquet")
    manifest = ingest(IngestConfig(source=str(tmp_path / "a.parquet")), tmp_path / "data")
    assert manifest["labels"] == ["1", "2", "inf"]
    assert hostile_rows.counts(manifest["rejected"]) == {"missing label": 80}


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Texts of 180 MB are read with less than 20 MB more than those of 60 MB, row keys included."""
    peaks = []
    for rows in (100_000, 300_000):
        with (tmp_path / "big.csv").open("w") as stream:
            stream.write("text,label\n")
            stream.writelines(f"{'word ' * 115} number {i},label {i % 5}\n" for i in range(rows))
        peaks.append(ingest_elsewhere(tmp_path / str(rows), source=tmp_path / "big.csv")[1])
    assert peaks[1] - peaks[0] < 20, peaks
    assert peaks[1] < 400
