"""Label columns with several labels or none, in each format, and what becomes of rows that are at fault."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest.dataset import IngestConfig, ingest

LABELS = "abcd"


def rows(count: int = 200) -> list[tuple[str, list[str]]]:
    chance = random.Random(0)
    return [(f"text number {i}", chance.sample(LABELS, chance.choice([0, 1, 1, 2]))) for i in range(count)]


def write_csv(path: Path, content: list[tuple[str, str]]) -> str:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "labels"), *content])
    return str(path)


def write_jsonl(path: Path, content: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


def counts(manifest: artifacts.Manifest) -> dict[str, int]:
    return {entry["reason"]: entry["count"] for entry in manifest["rejected"]}


def test_each_format_gives_the_same_dataset(tmp_path: Path) -> None:
    content = rows()
    table = pa.table({"text": [text for text, _ in content], "labels": [labels for _, labels in content]})
    pq.write_table(table, tmp_path / "c.parquet")
    sources = {
        "a": (write_csv(tmp_path / "a.csv", [(text, "|".join(labels)) for text, labels in content]), "|"),
        "b": (write_jsonl(tmp_path / "b.jsonl", [{"text": t, "labels": labels} for t, labels in content]), ""),
        "c": (str(tmp_path / "c.parquet"), ""),
    }
    files = []
    for name, (source, separator) in sources.items():
        manifest = ingest(IngestConfig(source=source, label_separator=separator), tmp_path / name)
        assert manifest["task"] == "multi-label-text-classification"
        assert manifest["rows_rejected"] == 0
        files.append(manifest["files"])
    assert files[0] == files[1] == files[2]
    splits = [artifacts.texts_and_labels(tmp_path / "a", split) for split in artifacts.SPLITS]
    found = {text: row.tolist() for texts, labels in splits for text, row in zip(texts, labels, strict=True)}
    assert found == {text: [int(label in labels) for label in LABELS] for text, labels in content}
    assert pq.read_schema(tmp_path / "a" / "train.parquet").field("label").type == pa.list_(pa.int32())


def test_every_label_and_the_rows_without_one_are_split_alike(tmp_path: Path) -> None:
    content = [(text, ";".join(labels)) for text, labels in rows(1000)]
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", content), label_separator=";"), tmp_path / "d")
    assert list(manifest["rows"].values()) == pytest.approx([700, 100, 200], abs=2)
    for label in LABELS:
        total = sum(manifest["label_counts"][split][label] for split in artifacts.SPLITS)
        shares = [manifest["label_counts"][split][label] / total for split in artifacts.SPLITS]
        assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    for split, share in zip(artifacts.SPLITS, (0.7, 0.1, 0.2), strict=True):
        empty = (artifacts.texts_and_labels(tmp_path / "d", split)[1].sum(axis=1) == 0).sum()
        assert empty == pytest.approx(share * sum(not labels for _, labels in rows(1000)), abs=2)


def test_rows_at_fault_are_counted(tmp_path: Path) -> None:
    good = [{"text": text, "labels": labels} for text, labels in rows()]
    bad: list[dict[str, object]] = [
        {"text": "null labels", "labels": None},
        {"text": "no key"},
        {"text": "a label that is null", "labels": ["a", None]},
        {"text": "a list in a list", "labels": [["a"]]},
        {"text": "a mapping", "labels": {"a": 1}},
        {"text": "text number 3", "labels": [*rows()[3][1], "zzz"]},
        {"text": "rare one", "labels": ["a", "rare"]},
        {"text": "rare two", "labels": ["rare", "scarce"]},
        {"text": "scarce one", "labels": ["scarce"]},
        {"text": "scarce two", "labels": ["scarce"]},
        {"text": "", "labels": ["a"]},
    ]
    kept: list[dict[str, object]] = [{"text": "just a name", "labels": "a"}, {"text": "twice", "labels": ["a", "a"]}]
    manifest = ingest(IngestConfig(source=write_jsonl(tmp_path / "a.jsonl", [*good, *bad, *kept])), tmp_path / "data")
    assert counts(manifest) == {
        "missing label": 3,
        "unusable label": 2,
        "missing text": 1,
        "conflicting labels": 2,
        "rare label": 4,
    }
    assert manifest["rows_read"] == 213
    assert manifest["rows_kept"] == 201
    assert manifest["labels"] == list(LABELS)


def test_a_rare_label_may_make_another_rare(tmp_path: Path) -> None:
    """``scarce`` has three rows; two of them also have ``rare``, which has two."""
    content = [(text, ";".join(labels)) for text, labels in rows()]
    content += [("one", "rare;scarce"), ("two", "rare;scarce"), ("three", "scarce;a")]
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", content), label_separator=";"), tmp_path / "d")
    assert counts(manifest) == {"rare label": 3}
    assert manifest["labels"] == list(LABELS)


def test_a_label_that_training_lacks_takes_its_rows_along(tmp_path: Path) -> None:
    content = [(text, ";".join(labels)) for text, labels in rows()]
    test = [(f"test {i}", ("a;new" if i < 4 else "b")) for i in range(12)]
    config = IngestConfig(
        source=write_csv(tmp_path / "a.csv", content),
        test_source=write_csv(tmp_path / "b.csv", test),
        label_separator=";",
    )
    manifest = ingest(config, tmp_path / "d")
    assert counts(manifest) == {"label not in training": 4}
    assert manifest["rows"]["test"] == 8
    assert manifest["label_counts"]["test"] == {"a": 0, "b": 8, "c": 0, "d": 0}


def test_duplicates_have_the_same_labels_in_any_order(tmp_path: Path) -> None:
    content = [(text, ";".join(labels)) for text, labels in rows()]
    content += [("same", "a;b"), ("same", "b; a"), ("other", "a"), ("other", "")]
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", content), label_separator=";"), tmp_path / "d")
    assert counts(manifest) == {"duplicate": 1, "conflicting labels": 2}


def test_a_first_label_that_is_null_hides_no_lists(tmp_path: Path) -> None:
    content: list[dict[str, object]] = [{"text": "null", "labels": None}]
    content += [{"text": text, "labels": labels} for text, labels in rows()]
    manifest = ingest(IngestConfig(source=write_jsonl(tmp_path / "a.jsonl", content)), tmp_path / "d")
    assert (manifest["task"], counts(manifest)) == ("multi-label-text-classification", {"missing label": 1})


def test_without_a_separator_a_cell_is_one_label(tmp_path: Path) -> None:
    content = [(f"text {i}", "x;y" if i % 2 else "x") for i in range(60)]
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", content)), tmp_path / "d")
    assert (manifest["task"], manifest["labels"]) == ("text-classification", ["x", "x;y"])


def test_near_duplicates_and_splits_by_column_and_time(tmp_path: Path) -> None:
    content: list[dict[str, object]] = [
        {
            "text": f"{t} is a sentence of some length",
            "labels": labels,
            "when": i,
            "part": ("train", "dev", "test")[i % 3],
        }
        for i, (t, labels) in enumerate(rows())
    ]
    source = write_jsonl(tmp_path / "a.jsonl", content)
    for split, shares in (("column:part", [67, 67, 66]), ("time:when", [140, 20, 40])):
        manifest = ingest(IngestConfig(source=source, split=split), tmp_path / split[:4])
        assert list(manifest["rows"].values()) == shares
    content.append({**content[3], "text": str(content[3]["text"]) + "!!"})
    source = write_jsonl(tmp_path / "b.jsonl", content)
    manifest = ingest(IngestConfig(source=source, near_duplicates=0.9), tmp_path / "near")
    assert counts(manifest)["near-duplicate"] >= 1


def test_label_sets_do_not_count_as_labels(tmp_path: Path) -> None:
    """More different sets than a classifier could have labels; 14 labels."""
    chance = np.random.default_rng(0).random((12_000, 14)) < 0.5
    content = [(f"t {i}", ";".join(chr(97 + j) for j in np.flatnonzero(row))) for i, row in enumerate(chance)]
    assert len({labels for _, labels in content}) > 8000
    manifest = ingest(IngestConfig(source=write_csv(tmp_path / "a.csv", content), label_separator=";"), tmp_path / "d")
    assert len(manifest["labels"]) == 14
    assert manifest["rows"]["test"] == pytest.approx(2400, abs=60)


def test_a_bad_separator_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^label_separator: got 'or'"):
        IngestConfig(source="a.csv", label_separator="or")
