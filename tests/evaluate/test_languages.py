import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts
from undercut.evaluate.languages import languages, macro
from undercut.evaluate.measure import EvaluateConfig, evaluate


def write(folder: Path, splits: dict[str, list[tuple[str, str, str]]], labels: list[str]) -> Path:
    """Seal a dataset of (language, text, label) rows."""
    folder.mkdir()
    for split, rows in splits.items():
        table = {
            "row": pa.array(range(len(rows)), pa.int64()),
            "text": [text for _, text, _ in rows],
            "label": pa.array([labels.index(label) for _, _, label in rows], pa.int32()),
            "language": [language for language, _, _ in rows],
        }
        pq.write_table(pa.table(table), folder / f"{split}.parquet")
    card = {"task": "text-classification", "labels": labels, "rows": {s: len(r) for s, r in splits.items()}}
    artifacts.seal(folder, artifacts.DATASET, card | {"columns": ["language"]})
    return folder


def test_each_language_weighs_the_same() -> None:
    found = macro(np.array([[90, 10], [1, 1]]), 0.95, 0)
    assert found["value"] == pytest.approx(0.7)
    assert found["low"] < 0.5 < 0.9 < found["high"] <= 1


def test_languages_without_training_rows_are_told_apart(tmp_path: Path) -> None:
    rows = [("en", f"text {i}", "a") for i in range(6)]
    test = [*rows, *[("de", f"Text {i}", "a") for i in range(4)], *[("fr", f"texte {i}", "a") for i in range(2)]]
    data = write(tmp_path / "data", {"train": rows, "validation": rows, "test": test}, ["a", "b"])
    correct = np.array([True] * 6 + [True, True, False, False] + [False, False])
    found = languages(data, artifacts.read_split(data, "test"), correct, 0.95, 0)
    assert found is not None
    shown = [(e["language"], e["n"], e["train_rows"], e["value"]) for e in found["accuracy"]]
    assert shown == [("de", 4, 0, 0.5), ("en", 6, 6, 1.0), ("fr", 2, 0, 0.0)]
    assert found["macro"]["value"] == pytest.approx(0.5)
    assert found["macro_unseen"]["value"] == pytest.approx(0.25)


def test_rows_that_name_no_language_give_none(small_data: Path) -> None:
    table = artifacts.read_split(small_data, "test")
    assert languages(small_data, table, np.ones(table.num_rows, dtype=bool), 0.95, 0) is None


@pytest.mark.slow
def test_english_topics_do_not_carry_over_to_german(shared_data: Path, tmp_path: Path) -> None:
    """SIB-200: a linear model on n-grams, trained on English, is near chance on German."""
    from undercut.compress.linear import compress
    from undercut.compress.structures import Inputs

    def read(name: str, language: str) -> list[tuple[str, str, str]]:
        with (shared_data / "crosslingual" / "sib200" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            return [(language, row["text"], row["label"]) for row in csv.DictReader(stream)]

    train = read("eng_Latn_train", "en")
    splits = {
        "train": train,
        "validation": read("eng_Latn_dev", "en"),
        "test": [*read("eng_Latn_test", "en"), *read("deu_Latn_test", "de")],
    }
    data = write(tmp_path / "data", splits, sorted({label for _, _, label in train}))
    model = tmp_path / "model"
    model.mkdir()
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    card = artifacts.load(data, artifacts.DATASET)
    # The structure ``linear`` takes from the teacher nothing but its manifest.
    manifest = {"task": card["task"], "labels": card["labels"], "precision": "as-is", "max_length": 0, "lost": ""}
    artifacts.seal(teacher, artifacts.MODEL, manifest | {"structure": "finetuned"})
    compress(Inputs(teacher=teacher, data=data), model, "", seed=0)
    found = evaluate(model, data, tmp_path / "out", EvaluateConfig())["languages"]
    german, english = found["accuracy"]
    assert (german["language"], german["n"], german["train_rows"]) == ("de", 204, 0)
    assert (english["language"], english["n"], english["train_rows"]) == ("en", 204, 701)
    assert english["low"] > 0.6
    assert german["high"] < english["low"]
    assert found["macro_unseen"]["value"] == pytest.approx(german["value"])
    assert found["macro"]["value"] == pytest.approx((german["value"] + english["value"]) / 2)
