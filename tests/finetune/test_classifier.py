import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.finetune.classifier import _second_pass_failed, finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.fitting import FitResult
from undercut.predictors import load_predictor

from tests.kills import kill_when

SETTINGS = {"epochs": 3, "learning_rate": 3e-3, "train_embeddings": True, "patience": 3}


def test_it_learns_and_says_how(small_data: Path, tiny_teacher: Path) -> None:
    manifest = artifacts.verify(tiny_teacher, artifacts.MODEL)
    curve = manifest["metrics"]["curve"]
    assert manifest["format"] == "torch"
    assert manifest["labels"] == ["cancel", "refund", "track"]
    assert manifest["dataset"] == artifacts.load(small_data, artifacts.DATASET)["digest"]
    assert [point["epoch"] for point in curve] == list(range(1, len(curve) + 1))
    assert curve[0]["train_loss"] == pytest.approx(1.098, abs=0.02)
    assert curve[-1]["validation_accuracy"] > 0.97
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    probabilities = load_predictor(tiny_teacher).probabilities(texts)
    assert probabilities.shape == (116, 3)
    assert (probabilities.argmax(1) == labels).mean() > 0.97


def test_same_settings_same_weights_and_no_checkpoint_left(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(base_model=str(tiny_base), **SETTINGS)
    digests = [finetune(small_data, tmp_path / name, config)["digest"] for name in "ab"]
    assert digests[0] == digests[1]
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


TRAIN = """
import json, sys
from pathlib import Path
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
data, output, settings = sys.argv[1:]
finetune(Path(data), Path(output), FinetuneConfig(**json.loads(settings)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [5, 60])
def test_a_killed_training_resumes_to_the_same_weights(
    small_data: Path, tiny_base: Path, tmp_path: Path, after: int
) -> None:
    """Killed in the first pass (step 5 of 45) and in the second (step 15)."""
    settings = {**SETTINGS, "base_model": str(tiny_base), "batch_tokens": 256, "checkpoint_seconds": 0.001}
    events = tmp_path / "events.jsonl"

    def start(output: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", TRAIN, str(small_data), str(tmp_path / output), json.dumps(settings)]
        return subprocess.Popen(command, env={**os.environ, "UNDERCUT_EVENTS": str(events)})

    assert start("whole").wait() == 0
    events.unlink()
    victim = start("resumed")
    kill_when(victim, events, '"progress"', after)
    assert not (tmp_path / "resumed" / "model.json").exists()
    assert start("resumed").wait() == 0
    assert "resumed at step" in events.read_text()
    whole, resumed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[k], resumed[k]) for k in whole)
    digests = {artifacts.verify(tmp_path / n, artifacts.MODEL)["digest"] for n in ("whole", "resumed")}
    assert len(digests) == 1


def test_time_and_money_stop_it(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(
        base_model=str(tiny_base), epochs=500, patience=500, budget_usd=0.001, usd_per_hour=1.8, max_seconds=60
    )
    assert config.allowance_seconds == pytest.approx(2.0)
    manifest = finetune(small_data, tmp_path / "model", config)
    assert 0 < len(manifest["metrics"]["curve"]) < 500
    assert manifest["metrics"]["stopped_by"] == "max_seconds"
    assert "no second pass" in manifest["method"]


def test_rare_labels_can_weigh_more() -> None:
    from undercut.tasks.text_classification import balanced_weights

    weights = balanced_weights(np.array([0, 0, 0, 1]), 2)
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 0), ("learning_rate", 2), ("class_weights", "some"), ("max_seconds", -1), ("budget_usd", 1)],
)
def test_a_wrong_setting_is_refused(setting: str, value: object) -> None:
    field = "usd_per_hour" if setting == "budget_usd" else setting
    with pytest.raises(ConfigurationError, match=f"^{field}: got"):
        FinetuneConfig(**{setting: value})  # type: ignore[arg-type]


def test_a_base_without_weights_is_refused(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"base_model: .* model\.safetensors"):
        finetune(small_data, tmp_path / "out", FinetuneConfig(base_model=str(tmp_path / "base")))


def test_a_training_that_gives_no_number_is_refused(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """The base's embeddings hold one NaN, as after a conversion that overflowed."""
    base = tmp_path / "base"
    base.mkdir()
    artifacts.copy_files(tiny_base, base, ["config.json", "tokenizer.json"])
    weights = load_file(tiny_base / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] = weights["embeddings.LayerNorm.weight"].copy()
    weights["embeddings.LayerNorm.weight"][0] = np.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"learning_rate: got 0\.003; .* diverged \(validation loss nan\)"):
        finetune(small_data, tmp_path / "out", FinetuneConfig(**(SETTINGS | {"base_model": str(base), "epochs": 1})))
    assert not (tmp_path / "out" / "model.json").exists()


@pytest.mark.parametrize(("loss", "discarded"), [(0.21, False), (0.31, True), (float("nan"), True)])
def test_a_second_pass_that_went_wrong_is_discarded(loss: float, discarded: bool) -> None:
    def result(train_loss: float) -> FitResult:
        return FitResult(best_epoch=1, epochs=1, seconds=1.0, stopped_by="", curve=[{"train_loss": train_loss}])

    assert bool(_second_pass_failed(result(0.2), result(loss))) is discarded
