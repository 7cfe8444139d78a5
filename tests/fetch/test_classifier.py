from collections.abc import Callable
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.fetch.classifier import fetch
from undercut.predictors import load_predictor
from undercut.storage import pin

from tests.conftest import small_rows, write_dataset


def changed(model: Path, folder: Path, **settings: object) -> Path:
    """Seal a copy of a model folder with other settings."""
    manifest = artifacts.load(model, artifacts.MODEL)
    artifacts.copy_files(model, folder, manifest["files"])
    artifacts.seal(folder, artifacts.MODEL, artifacts.content(manifest) | settings)
    return folder


def test_it_is_the_same_model_with_the_same_digest(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    fetch(pin(f"file://{tiny_teacher}"), small_data, tmp_path / "model")
    source, found = (artifacts.verify(p, artifacts.MODEL) for p in (tiny_teacher, tmp_path / "model"))
    assert found["digest"] == source["digest"]
    assert found["ledger"] == source["ledger"]
    assert load_predictor(tmp_path / "model").labels == ("cancel", "refund", "track")


def test_whatever_it_was_made_by_it_is_the_one_to_undercut(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    model = changed(tiny_teacher, tmp_path / "source", structure="pruned-2x50x50")
    fetch(str(model), small_data, tmp_path / "model")
    assert artifacts.verify(tmp_path / "model", artifacts.MODEL)["structure"] == "finetuned"


def test_another_dataset_is_mentioned(tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    fetch(str(tiny_teacher), write_dataset(tmp_path / "data", small_rows(7)), tmp_path / "model")
    assert "fine-tuned on another dataset" in (tmp_path / "events.jsonl").read_text()


def test_what_is_no_teacher_is_refused(
    small_data: Path, tiny_base: Path, linear_model: Path, lost_model: Callable[..., Path], tmp_path: Path
) -> None:
    for folder, words in (
        (tiny_base, "a folder that holds model.json"),
        (linear_model, "a linear model'; allowed: a model in PyTorch format"),
        (lost_model(tmp_path / "lost"), "a lost candidate"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            fetch(str(folder), small_data, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_tampered_model_is_refused(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    model = changed(tiny_teacher, tmp_path / "source")
    (model / "config.json").unlink()
    (model / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"source/config\.json: .*its SHA-256 is not the recorded one"):
        fetch(str(model), small_data, tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": ["cancel", "refund"]}, "only one of them has track"),
        ({"labels": ["refund", "cancel", "track"]}, "they stand in another order"),
        ({"task": "masked-language-modelling"}, "a model for text-classification"),
    ],
)
def test_labels_and_task_must_be_the_datasets(
    small_data: Path, tiny_teacher: Path, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    model = changed(tiny_teacher, tmp_path / "source", **settings)
    with pytest.raises(ConfigurationError, match=words):
        fetch(str(model), small_data, tmp_path / "model")
