"""What would go wrong only with gigabytes: memory by the row, what a killed attempt leaves, hours without a word."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest import quality
from undercut.ingest.clean import text_keys
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.ingest.held_out import hold_out
from undercut.ingest.quality import REPEATED, Quality
from undercut.ingest.raw_text import _Read, _reject
from undercut.ingest.read import open_source
from undercut.ingest.split import Keys, decide

ROWS = 400_000


def bytes_a_row(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / ROWS


def random_keys() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**63, ROWS).astype(np.uint64)


def test_deciding_takes_few_bytes_a_row() -> None:
    words, label = random_keys(), (np.arange(ROWS) % 50).astype(np.int32)
    given, times = np.zeros(ROWS, np.uint8), np.empty(0, np.float64)
    keys = Keys(text=words, words=words, label=label, given=given, time=times)
    assert bytes_a_row(lambda: decide(keys, 0)) < 25


@pytest.mark.parametrize("documents", [ROWS // 6, 1])
def test_deciding_on_raw_text_takes_few_bytes_a_paragraph(documents: int) -> None:
    words, read = random_keys(), _Read()
    read.words.frombytes(words.tobytes())
    read.documents.frombytes((np.arange(ROWS) * documents // ROWS).astype(np.uint32).tobytes())
    read.faults.frombytes(bytes(documents))
    labelled = words[::10].copy()
    assert bytes_a_row(lambda: _reject(read, labelled)) < 20
    fates = _reject(read, labelled)
    assert (fates > 1).sum() == ROWS // 10
    numbers = np.frombuffer(read.documents, np.uint32)
    assert bytes_a_row(lambda: hold_out(fates, words, numbers, documents, 0)) < 25
    assert 0.045 < (fates == 1).sum() / (fates < 2).sum() < 0.055


def test_a_document_of_many_lines_keeps_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "COMPARED_LINES", 100)
    measured = Quality()
    measured.add("\n".join(f"this is line number {i} of a long document" for i in range(100)))
    measured.add("\n".join(["the same line over and over again"] * 1000))
    assert (len(measured.lines), measured.all_lines, measured.fault()) == (100, 1100, "")
    monkeypatch.setattr(quality, "COMPARED_LINES", 200)
    again = Quality()
    again.add("\n".join(["the same line over and over again"] * 1000))
    assert again.fault() == REPEATED


def test_large_rows_of_a_parquet_file_are_read_few_at_a_time(tmp_path: Path) -> None:
    generator = random.Random(0)
    texts = [generator.randbytes(50_000).hex() for _ in range(600)]  # 60 MB in one row group
    table = pa.table({"text": texts, "label": ["x", "y"] * 300})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    source = open_source("source", str(tmp_path / "a.parquet"), "", "")
    tracemalloc.start()
    assert sum(len(record.values[0]) for record in source.reader.records(0, 1, 200_000)) == 60_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 45_000_000  # two batches of 16 MB; all of it as one batch is 60 MB and more


def test_long_labels_are_not_kept_in_memory(tmp_path: Path) -> None:
    lines = ["text,label"] + [f"text number {i},{' ' * 30_000}{'xy'[i % 2]}{' ' * (i % 500)}" for i in range(1000)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    tracemalloc.start()
    manifest = ingest(IngestConfig(source=str(tmp_path / "a.csv")), tmp_path / "data")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (manifest["labels"], manifest["rows_kept"]) == (["x", "y"], 1000)
    assert peak < 10_000_000  # the labels as they stand are 30 MB


def test_a_search_for_the_first_row_holds_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{'x' * 500_000}\n" * 100 + '{"text": "a", "label": "x"}\n')
    tracemalloc.start()
    assert open_source("source", str(tmp_path / "a.jsonl"), "", "").reader.columns == ["text", "label"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # the lines are 50 MB
    (tmp_path / "a.csv").write_text("\n" * 200_000 + "text,label\na,x\n")
    source = open_source("source", str(tmp_path / "a.csv"), "", "")
    assert [record.line for record in source.reader.records(0, 1, 100)] == [200_002]


def test_a_header_of_a_hundred_thousand_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label" + ",more" * 100_000 + "\na,x\n")
    with pytest.raises(ConfigurationError, match=r"source: got .* with 100,002'; allowed: at most 5,000 columns"):
        open_source("source", str(tmp_path / "a.csv"), "", "")


def write_rows(path: Path, rows: int) -> Path:
    lines = [f"text number {i} about {text_keys(str(i))[1]},{i % 3}" for i in range(rows)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def test_what_a_killed_attempt_leaves_is_not_sealed(tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "a.csv", 200_000), tmp_path / "data"
    code = "import sys; from pathlib import Path; from undercut.ingest.dataset import *; "
    code += "ingest(IngestConfig(source=sys.argv[1]), Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(source), str(output)])
    while not list(output.glob("staged-*/rows.arrow")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(output.glob("staged-*"))
    (output / "unlabelled-00000.parquet").write_bytes(b"of an attempt with raw text")
    ingest(IngestConfig(source=str(write_rows(tmp_path / "b.csv", 100))), output)
    assert sorted(artifacts.verify(output, artifacts.DATASET)["files"]) == [
        "test.parquet",
        "train.parquet",
        "validation.parquet",
    ]


@pytest.mark.parametrize("bad", [b"\x1f\x8b broken", b""])
def test_a_failed_attempt_leaves_no_temporary_files(tmp_path: Path, bad: bytes) -> None:
    import gzip

    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("\n\n".join(f"paragraph number {i}" for i in range(100)))
    whole = gzip.compress(b"text,label\n" + b"".join(b"text %d,%d\n" % (i, i % 2) for i in range(50_000)))
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2] + bad)
    with pytest.raises(ConfigurationError, match="a complete gzip file"):
        ingest(IngestConfig(source=str(tmp_path / "a.csv.gz")), tmp_path / "data")
    (tmp_path / "raw" / "b.txt.gz").write_bytes(whole[: len(whole) // 2] + bad)
    with pytest.raises(ConfigurationError, match="a complete gzip file"):
        ingest(IngestConfig(unlabelled_source=str(tmp_path / "raw")), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_every_part_of_the_work_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    monkeypatch.setattr("undercut.ingest.staging._PROGRESS_SECONDS", 0.0)
    (tmp_path / "raw.txt").write_text("\n\n".join(f"paragraph {i} about {text_keys(str(i))[0]}" for i in range(3000)))
    source = write_rows(tmp_path / "a.csv", 10_000)
    config = IngestConfig(source=str(source), unlabelled_source=str(tmp_path / "raw.txt"), near_duplicates=0.9)
    ingest(config, tmp_path / "data")
    found = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    messages = [event["message"] for event in found if event["type"] == "progress"]
    order = ["rows read", "signatures", "compared: keys", "which split", "band 1 of", "rows written", "files read"]
    order += ["paragraphs read", "signatures", "keys", "band 10 of 10", "paragraphs written", "files written"]
    places, at = [], 0
    for part in order:
        at = next(i for i, message in enumerate(messages) if i >= at and part in message)
        places.append(at)
    assert places == sorted(places)
    assert all(event["done"] <= event["total"] for event in found if event["type"] == "progress")
    assert os.path.getsize(tmp_path / "events.jsonl") < 20_000
