import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest import shards
from undercut.ingest.dataset import IngestConfig, ingest

PROSE = "The quick brown fox number {} jumps over the lazy dog while the other animals of the farm look on in surprise."


def paragraphs(start: int, count: int) -> str:
    return "\n\n".join(PROSE.format(start + i) for i in range(count)) + "\n"


def rows(folder: Path, split: str) -> list[dict[str, object]]:
    return artifacts.read_split(folder, split).to_pylist()


def write_folder(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(
        b"\xef\xbb\xbfFirst line\nsecond line.\n\n\n \t\nAnother\x00 one.\r\n\r\ncaf\xe9 is open\n\n"
        + paragraphs(0, 8).encode()
    )
    with gzip.open(folder / "sub" / "b.txt.gz", "wt") as stream:
        stream.write("another one\n\n" + paragraphs(100, 5))
    records = [{"text": "Record one.\n\nRecord two."}, {"other": 1}, {"content": PROSE.format(7)}]
    (folder / "c.jsonl").write_text("\n".join(json.dumps(r) for r in records) + "\nnot json\n")
    (folder / "d.md").write_text("# Title\n\nBody of it.\n")
    (folder / "e.pdf").write_bytes(b"%PDF")
    return folder


def test_a_folder_becomes_unlabelled_shards(tmp_path: Path) -> None:
    manifest = ingest(IngestConfig(unlabelled_source=str(write_folder(tmp_path / "raw"))), tmp_path / "data")
    artifacts.verify(tmp_path / "data", artifacts.DATASET)
    raw = manifest["unlabelled"]
    assert manifest["task"] == "language-modelling"
    assert sorted(manifest["files"]) == ["unlabelled-00000.parquet", "unlabelled_validation-00000.parquet"]
    assert (raw["files"], raw["files_passed_over"], raw["documents"]) == (4, 1, 7)
    assert (raw["paragraphs_read"], raw["paragraphs_kept"], raw["paragraphs_rejected"]) == (24, 20, 4)
    found = {entry["reason"]: (entry["count"], entry["examples"]) for entry in raw["rejected"]}
    assert {reason: count for reason, (count, _) in found.items()} == {
        "unparsable JSON": 1,
        "missing text": 1,
        "repeated paragraph": 2,
    }
    assert [(e["file"], e["line"]) for e in found["repeated paragraph"][1]] == [("c.jsonl", 3), ("sub/b.txt.gz", 1)]
    assert {entry["reason"]: entry["count"] for entry in raw["repaired"]} == {"bad UTF-8": 1, "control characters": 1}
    kept = {
        row["text"]: (row["document"], row["paragraph"]) for s in manifest["rows"] for row in rows(tmp_path / "data", s)
    }
    assert kept["First line second line."] == ("a.txt", 0)
    assert kept["Record two."] == ("c.jsonl:1", 1)
    assert kept["caf\ufffd is open"] == ("a.txt", 2)
    assert manifest["rows"] == {"unlabelled": 19, "unlabelled_validation": 1}
    assert raw["held_out"]["by"] == "block"


def test_documents_are_held_out_whole_and_stay_so_when_the_folder_grows(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for i in range(60):
        (tmp_path / "raw" / f"{i:03}.txt").write_text(paragraphs(i * 10, 3))
    first = ingest(IngestConfig(unlabelled_source=str(tmp_path / "raw")), tmp_path / "one")
    held = {row["document"] for row in rows(tmp_path / "one", "unlabelled_validation")}
    assert first["rows"] == {"unlabelled": 171, "unlabelled_validation": 9}
    assert held.isdisjoint(row["document"] for row in rows(tmp_path / "one", "unlabelled"))
    for i in range(60, 100):
        (tmp_path / "raw" / f"{i:03}.txt").write_text(paragraphs(i * 10, 3))
    ingest(IngestConfig(unlabelled_source=str(tmp_path / "raw")), tmp_path / "two")
    assert held < {row["document"] for row in rows(tmp_path / "two", "unlabelled_validation")}
    ingest(IngestConfig(unlabelled_source=str(tmp_path / "raw"), seed=1), tmp_path / "three")
    assert held != {row["document"] for row in rows(tmp_path / "three", "unlabelled_validation")}


def test_a_long_paragraph_is_cut_at_white_space(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 300 + "\n\n" + "x" * 250 + "\n\n" + "short words\nover lines " * 20)
    manifest = ingest(IngestConfig(unlabelled_source=str(tmp_path / "a.txt"), max_characters=100), tmp_path / "data")
    texts = [row["text"] for split in manifest["rows"] for row in rows(tmp_path / "data", split)]
    assert max(map(len, texts)) == 100
    assert {"x" * 100, "x" * 50} < set(texts)
    assert all(set(text.split()) <= {"word", "short", "words", "over", "lines"} for text in texts if "x" not in text)
    (cut,) = manifest["unlabelled"]["repaired"]
    assert (cut["reason"], cut["count"]) == ("cut", len(texts))


def test_what_stands_in_the_labelled_test_rows_is_not_trained_on(tmp_path: Path) -> None:
    lines = [f"message number {i} about {'a' if i % 2 else 'b'},{i % 2}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "raw.txt").write_text("\n\n".join(line.rpartition(",")[0].upper() + "!" for line in lines))
    config = IngestConfig(source=str(tmp_path / "rows.csv"), unlabelled_source=str(tmp_path / "raw.txt"))
    manifest = ingest(config, tmp_path / "data")
    assert manifest["rows"] == {"train": 42, "validation": 6, "test": 12, "unlabelled": 40, "unlabelled_validation": 2}
    assert manifest["unlabelled"]["rejected"][0]["reason"] == "in a labelled split"
    assert manifest["unlabelled"]["rejected"][0]["count"] == 18
    assert manifest["rows_kept"] == 60


def test_the_quality_rules_reject_documents(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(25):
        (raw / f"good{i:02}.txt").write_text(paragraphs(i * 10, 4))
    numbered = [f"line number {i} of this page has some ten words in it" for i in range(20)]
    bad = {
        "few words": "Too short to be a document.",
        "odd word length": "a b c d " * 30,
        "many symbols": "# good words here " * 30,
        "bullets or ellipses": "\n".join(f"- {line}" for line in numbered),
        "few alphabetic words": "word 1234 5678 " * 30,
        "repeated lines": "\n".join(["Home and about and contact"] * 10 + numbered[:10]),
    }
    for i, text in enumerate(bad.values()):
        (raw / f"bad{i}.txt").write_text(text)
    manifest = ingest(IngestConfig(unlabelled_source=str(raw), quality_filter=True), tmp_path / "data")
    found = {e["reason"]: (e["count"], e["examples"][0]["file"]) for e in manifest["unlabelled"]["rejected"]}
    assert found == {reason: (1, f"bad{i}.txt") for i, reason in enumerate(bad)}
    assert manifest["unlabelled"]["documents_rejected"] == 6
    assert sum(manifest["rows"].values()) == 100
    unfiltered = ingest(IngestConfig(unlabelled_source=str(raw)), tmp_path / "all")
    assert sum(unfiltered["rows"].values()) == 106


def test_near_duplicates_of_raw_text_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(paragraphs(0, 30) + "\nSomething else altogether, said in other words.\n")
    manifest = ingest(IngestConfig(unlabelled_source=str(tmp_path / "a.txt"), near_duplicates=0.8), tmp_path / "data")
    assert manifest["rows"] == {"unlabelled": 1, "unlabelled_validation": 1}
    (near,) = manifest["unlabelled"]["rejected"]
    assert (near["reason"], near["count"], near["examples"][0]["line"]) == ("near-duplicate", 29, 3)


def test_shards_are_numbered_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(shards, "_ROW_GROUP_BYTES", 20_000)
    monkeypatch.setattr("undercut.ingest.stream.BATCH_CHARACTERS", 10_000)
    (tmp_path / "a.txt").write_text(paragraphs(0, 3000))
    lines = [f"{PROSE.format(i)},{i % 2}" for i in range(3000)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"of an earlier attempt")
    config = IngestConfig(source=str(tmp_path / "rows.csv"), unlabelled_source=str(tmp_path / "a.txt"))
    manifest = ingest(config, tmp_path / "data")
    assert [len(artifacts.split_files(tmp_path / "data", s)) for s in manifest["rows"]] == [3, 1, 1, 3, 1]
    assert {"train-00002.parquet", "validation.parquet", "unlabelled_validation-00000.parquet"} < manifest[
        "files"
    ].keys()
    for split, count in manifest["rows"].items():
        read = rows(tmp_path / "data", split)
        assert len(read) == count
        assert [row["row"] for row in read] == sorted(row["row"] for row in read)
    sizes = [pq.read_table(p).nbytes for p in artifacts.split_files(tmp_path / "data", "train")]
    assert max(sizes) <= 100_000


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"source: got ''.*Raw text alone is given as unlabelled_source"):
        IngestConfig()
    with pytest.raises(ConfigurationError, match=r"unlabelled_source: .*a folder with \.txt, \.md or \.jsonl"):
        ingest(IngestConfig(unlabelled_source=str(tmp_path)), tmp_path / "data")
    (tmp_path / "a.txt").write_text("one paragraph only\n")
    with pytest.raises(ConfigurationError, match="with 1 usable paragraphs of 1 read"):
        ingest(IngestConfig(unlabelled_source=str(tmp_path)), tmp_path / "other")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a\n\nb\n\nc\n" * 1000)[:-9])
    with pytest.raises(ConfigurationError, match="a complete gzip file"):
        ingest(IngestConfig(unlabelled_source=str(tmp_path)), tmp_path / "third")
