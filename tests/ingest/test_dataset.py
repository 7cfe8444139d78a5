import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest.component import ingest as component
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.ingest.rules import REJECTED, REPAIRED


def write_csv(path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("text", "label")) -> str:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


def plain_rows(n: int = 60, prefix: str = "text") -> list[tuple[object, ...]]:
    return [(f"{prefix} {i}", "ab"[i % 2]) for i in range(n)]


def counts(manifest: artifacts.Manifest, kind: str = "rejected") -> dict[str, int]:
    return {entry["reason"]: entry["count"] for entry in manifest[kind]}


def test_the_dataset_folder(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ba"[i % 2], "en" if i % 3 else "") for i in range(60)]
    source = write_csv(
        tmp_path / "a.csv", [*rows, ("nul\x00 here", "a", "de"), ("late", "", "de")], ("text", "label", "language")
    )
    manifest = ingest(IngestConfig(source=source), tmp_path / "data")
    assert artifacts.verify(tmp_path / "data", artifacts.DATASET) == manifest
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        *("dataset.json", "test.parquet", "train.parquet", "validation.parquet"),
    ]
    assert manifest["labels"] == ["a", "b"]
    assert manifest["columns"] == ["language"]
    assert manifest["rows"] == {"train": 43, "validation": 6, "test": 12}
    assert (manifest["rows_read"], manifest["rows_kept"], manifest["rows_rejected"]) == (62, 61, 1)
    assert manifest["split"] == {
        **{"method": "stratified", "seed": 0, "given": ["train"]},
        **{"cut_off_training": {"test": 0.2, "validation": 0.1}},
    }
    assert manifest["characters"] == {"p50": 7, "p95": 7, "max": 8}
    assert manifest["label_counts"]["test"] == {"a": 6, "b": 6}
    assert manifest["rejected"] == [
        {
            **{"reason": "missing label", "rule": REJECTED["missing label"], "count": 1},
            "examples": [{"file": source, "line": 63, "text": "late"}],
        }
    ]
    assert manifest["repaired"] == [
        {
            **{"reason": "control characters", "rule": REPAIRED["control characters"], "count": 1},
            "examples": [{"file": source, "line": 62, "text": "nul here"}],
        }
    ]
    sha = artifacts.file_digest(Path(source))
    assert manifest["sources"] == [{"uri": source, "sha256": sha, "rows": 62, "split": "train, validation, test"}]
    tables = [artifacts.read_split(tmp_path / "data", split) for split in artifacts.SPLITS]
    assert str(tables[0].schema.remove_metadata()) == "row: int64\ntext: string\nlabel: int32\nlanguage: string"
    kept = sorted(row for table in tables for row in zip(*table.to_pydict().values(), strict=True))
    assert [row[0] for row in kept] == list(range(61))
    assert kept[0] == (0, "text 0", 1, None)
    assert kept[-1] == (60, "nul here", 0, "de")


def test_the_same_input_gives_the_same_digest(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", plain_rows())
    command = "import sys; from pathlib import Path; from undercut.ingest.dataset import *;"
    command += "print(ingest(IngestConfig(source=sys.argv[1]), Path(sys.argv[2]))['digest'])"
    found = {
        subprocess.run(
            [sys.executable, "-c", command, source, tmp_path / str(i)], check=True, capture_output=True
        ).stdout
        for i in range(2)
    }
    assert len(found) == 1


def test_three_sources_with_columns_of_their_own(tmp_path: Path) -> None:
    config = IngestConfig(
        source=write_csv(tmp_path / "a.csv", [(*row, i) for i, row in enumerate(plain_rows())], ("text", "label", "n")),
        validation_source=write_csv(tmp_path / "b.csv", [("a", "Text 7!"), *[(b, a) for a, b in plain_rows(10, "dev")]], ("intent", "utterance")),
        test_source=write_csv(tmp_path / "c.csv", [("text 8", "a", "x"), *[(*r, "y") for r in plain_rows(10, "test")]], ("text", "label", "kind")),
    )  # fmt: skip
    manifest = ingest(config, tmp_path / "data")
    assert manifest["rows"] == {"train": 58, "validation": 11, "test": 11}
    assert manifest["columns"] == ["n", "kind"]
    assert counts(manifest) == {"in two splits": 2}
    assert [e["line"] for e in manifest["rejected"][0]["examples"]] == [9, 10]
    assert [source["split"] for source in manifest["sources"]] == ["train", "validation", "test"]
    test = artifacts.read_split(tmp_path / "data", "test").to_pydict()
    assert (test["n"][0], test["kind"][0], test["text"][0], test["row"][0]) == (None, "x", "text 8", 71)


def test_a_split_column(tmp_path: Path) -> None:
    names = (
        ["train"] * 20 + ["Training"] * 20 + ["dev", "valid", "VALIDATION", "val "] * 2 + ["test"] * 8 + ["holdout", ""]
    )
    rows = [(f"text {i}", "ab"[i % 2], name) for i, name in enumerate(names)]
    source = write_csv(tmp_path / "a.csv", rows, ("text", "label", "Fold"))
    manifest = ingest(IngestConfig(source=source, split="column:fold"), tmp_path / "data")
    assert manifest["rows"] == {"train": 40, "validation": 8, "test": 8}
    assert counts(manifest) == {"unknown split": 2}
    assert manifest["columns"] == ["Fold"]
    without = write_csv(
        tmp_path / "b.csv",
        [row for row in rows if "va" not in row[2].lower() and row[2] != "dev"],
        ("text", "label", "Fold"),
    )
    manifest = ingest(IngestConfig(source=without, split="column:Fold"), tmp_path / "data2")
    assert manifest["rows"] == {"train": 36, "validation": 4, "test": 8}
    assert manifest["split"]["cut_off_training"] == {"validation": 0.1}


def test_a_time_column(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], f"2026-{1 + i // 28:02}-{1 + i % 28:02}") for i in range(100)]
    source = write_csv(tmp_path / "a.csv", [*reversed(rows), ("never", "a", "some day")], ("text", "label", "date"))
    manifest = ingest(IngestConfig(source=source, split="time:date"), tmp_path / "data")
    assert manifest["rows"] == {"train": 70, "validation": 10, "test": 20}
    assert counts(manifest) == {"unreadable time": 1}
    dates = [sorted(artifacts.read_split(tmp_path / "data", s)["date"].to_pylist()) for s in artifacts.SPLITS]
    assert dates[0][-1] < dates[1][0] <= dates[1][-1] < dates[2][0]


def test_a_label_in_the_test_source_only_is_no_crash(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", plain_rows())
    test = write_csv(tmp_path / "b.csv", [*plain_rows(10, "t"), *((f"new {i}", "c") for i in range(4))])
    manifest = ingest(IngestConfig(source=source, test_source=test), tmp_path / "data")
    assert manifest["labels"] == ["a", "b"]
    assert counts(manifest) == {"label not in training": 4}


def test_numeric_labels_are_strings(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": [1, 1.0, "1", 2, "2.0"][i % 5]} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = ingest(IngestConfig(source=str(tmp_path / "a.jsonl")), tmp_path / "data")
    assert manifest["labels"] == ["1", "2"]


def test_large_files_are_written_by_row_groups(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", [(f"text {i} " + "x" * (i % 50), "abc"[i % 3]) for i in range(60_000)])
    manifest = ingest(IngestConfig(source=source), tmp_path / "data")
    train = pq.ParquetFile(tmp_path / "data/train.parquet")
    assert manifest["rows"] == {"train": 42_000, "validation": 6_000, "test": 12_000}
    assert train.num_row_groups == 4
    assert train.read()["row"].to_pylist() == sorted(train.read()["row"].to_pylist())


def test_examples_are_the_first_five_and_short(tmp_path: Path) -> None:
    rows = [*plain_rows(), *(("long " * 100, "") for _ in range(7)), *(("Text 3", "b") for _ in range(7))]
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", rows)), tmp_path / "data")
    missing, duplicate = manifest["rejected"]
    assert (missing["count"], duplicate["count"]) == (7, 7)
    assert [e["line"] for e in missing["examples"]] == [62, 63, 64, 65, 66]
    assert [e["line"] for e in duplicate["examples"]] == [69, 70, 71, 72, 73]
    assert len(missing["examples"][0]["text"]) == 160


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"source": ""}, "source: got ''"),
        ({"split": "random"}, "split: got 'random'; allowed: stratified, column:NAME or time:NAME"),
        ({"split": "column:"}, "split: got 'column:'"),
        ({"max_characters": 0}, "max_characters: got 0; allowed: from 1 to 1,000,000"),
        ({"seed": -1}, "seed: got -1"),
        ({"split": "time:when"}, "split: got 'when'; allowed: a column of .*: text, label"),
        ({"test_source": "/no/such/file.csv"}, "test_source: got '/no/such/file.csv'"),
    ],
)
def test_refused_settings(tmp_path: Path, settings: dict[str, object], error: str) -> None:
    source = write_csv(tmp_path / "a.csv", plain_rows())
    with pytest.raises(ConfigurationError, match=error):
        ingest(IngestConfig(**{"source": source} | settings), tmp_path / "data")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (
            [(f"text {i}", "a") for i in range(50)],
            r"with one label \('a'\)'; allowed: at least two labels. rows rejected: none",
        ),
        ([(f"text {i}", "nan") for i in range(50)], "no usable row'; .*rows rejected: 50 for 'missing label'"),
        ([("same", "ab"[i % 2]) for i in range(50)], "left to train on.*50 for 'conflicting labels'"),
        (
            [(f"text {i}", f"label {i}") for i in range(50)],
            "0 label.* two labels of 3 rows or more.*50 for 'rare label'",
        ),
        (plain_rows(8), "source: got '4 train rows of 8 rows read'; allowed: at least 8 train rows. Add rows"),
        ([(f"text {i}", f"label {i}") for i in range(10_002)], "label_column: got 'more than 10,000 labels'"),
    ],
)
def test_refused_data(tmp_path: Path, rows: list[tuple[object, ...]], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", rows)), tmp_path / "data")


def test_too_few_test_rows_name_the_test_source(tmp_path: Path) -> None:
    test = write_csv(tmp_path / "b.csv", plain_rows(2, "t"))
    config = IngestConfig(source=write_csv(tmp_path / "a.csv", plain_rows()), test_source=test)
    with pytest.raises(ConfigurationError, match="test_source: got '2 test rows of 62 rows read'"):
        ingest(config, tmp_path / "data")


def test_the_component_writes_the_ledger_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    source = write_csv(tmp_path / "a.csv", plain_rows())
    component.python_func(source=source, data=SimpleNamespace(path=str(tmp_path / "data")), seed=3)
    manifest = artifacts.verify(tmp_path / "data", artifacts.DATASET)
    assert [entry["step"] for entry in manifest["ledger"]] == ["ingest"]
    assert manifest["split"]["seed"] == 3
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["type"] for e in events] == ["started", *["progress"] * 4, "message", "finished"]
    assert events[-2]["message"] == "60 rows read: 42 train, 6 validation, 12 test; rejected: none"
    with pytest.raises(SystemExit) as caught:
        component.python_func(source="no.csv", data=SimpleNamespace(path=str(tmp_path / "none")))
    assert caught.value.code == 2


def test_light_imports() -> None:
    code = "import sys, undercut.ingest.dataset; heavy = {'torch', 'kfp', 'sklearn', 'mlflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; assert not heavy, heavy"], check=True)


def test_banking77_shares_25_texts(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "customer_service"
    config = IngestConfig(source=str(folder / "banking77_train.csv"), test_source=str(folder / "banking77_test.csv"))
    manifest = ingest(config, tmp_path / "data")
    assert manifest["rows"] == {"train": 8976, "validation": 998, "test": 3079}
    assert counts(manifest) == {"duplicate": 5, "in two splits": 25}
    assert all(e["file"].endswith("train.csv") for e in manifest["rejected"][1]["examples"])
    assert len(manifest["labels"]) == 77


def test_headlines_and_retail_messages(shared_data: Path, tmp_path: Path) -> None:
    headlines = ingest(IngestConfig(source=str(shared_data / "finance/sentfin_headline.csv")), tmp_path / "a")
    assert headlines["labels"] == ["mixed", "negative", "neutral", "positive"]
    assert headlines["rows"] == {"train": 7473, "validation": 1067, "test": 2136}
    assert counts(headlines) == {"duplicate": 57, "conflicting labels": 20}
    retail = ingest(IngestConfig(source=str(shared_data / "customer_service/bitext_cs_dev.csv")), tmp_path / "b")
    assert len(retail["labels"]) == 27
    assert retail["columns"] == ["category", "tags"]
    assert retail["rows_kept"] == 808
