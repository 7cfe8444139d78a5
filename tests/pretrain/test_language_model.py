import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.settings import PretrainConfig

from tests.kills import kill_when

SETTINGS = {"size": "tiny", "vocabulary_size": 400, "sequence_length": 32, "batch_tokens": 512, "learning_rate": 2e-3}

OPENERS = ["Where is my refund", "The parcel", "An order", "It", "This clerk", "Never mind", "A day"]


@pytest.fixture(scope="module")
def pretrained(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    pretrain(small_text, folder, PretrainConfig(**SETTINGS, epochs=2))
    return folder


@pytest.mark.slow
def test_it_learns_and_says_on_what_its_perplexity_was_computed(small_text: Path, pretrained: Path) -> None:
    manifest = artifacts.verify(pretrained, artifacts.MODEL)
    metrics = manifest["metrics"]
    assert manifest["task"] == "masked-language-modelling"
    assert manifest["dataset"] == artifacts.load(small_text, artifacts.DATASET)["digest"]
    assert set(manifest["files"]) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert metrics["trained_on"]["texts"] + metrics["computed_on"]["held_out_texts"] == 1152
    assert metrics["curve"][0]["train_loss"] == pytest.approx(5.0, abs=0.8)
    assert metrics["loss"] < 3.6
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert metrics["computed_on"]["tokens_guessed"] > 50
    vocabulary = Tokenizer.from_file(str(pretrained / "tokenizer.json"))
    assert vocabulary.encode("where is my refund").tokens == ["[CLS]", "where", "is", "my", "refund", "[SEP]"]


@pytest.mark.slow
def test_finetune_starts_from_it(small_data: Path, pretrained: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(
        base_model=str(pretrained), epochs=4, learning_rate=3e-3, batch_tokens=256, max_length=32, refit=False
    )
    manifest = finetune(small_data, tmp_path / "model", config)
    assert manifest["metrics"]["curve"][-1]["validation_accuracy"] > 0.9


TRAIN = """
import json, sys
from pathlib import Path
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.settings import PretrainConfig
data, output, settings = sys.argv[1:]
pretrain(Path(data), Path(output), PretrainConfig(**json.loads(settings)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("after", "next_sentence"), [(2, False), (12, False), (18, True)])
def test_a_killed_run_resumes_to_the_same_weights(
    small_text: Path, tmp_path: Path, after: int, next_sentence: bool, make_unlabelled: Callable[..., Path]
) -> None:
    """Killed once the text is being tokenised or the first steps are made, and in the middle of training."""
    settings = {**SETTINGS, "max_steps": 20, "checkpoint_seconds": 0.001, "next_sentence": next_sentence}
    if next_sentence:
        texts = [f"{a} is what they said. {b} was the answer." for a, b in itertools.pairwise(OPENERS * 40)]
        small_text = make_unlabelled(tmp_path / "text", texts)
    events = tmp_path / "events.jsonl"

    def start(output: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", TRAIN, str(small_text), str(tmp_path / output), json.dumps(settings)]
        return subprocess.Popen(command, env={**os.environ, "UNDERCUT_EVENTS": str(events)})

    assert start("whole").wait() == 0
    events.unlink()
    victim = start("resumed")
    kill_when(victim, events, '"progress"', after)
    assert not (tmp_path / "resumed" / "model.json").exists()
    assert start("resumed").wait() == 0
    assert after < 12 or "resumed at step" in events.read_text()
    whole, resumed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "resumed"))
    assert all(np.array_equal(whole[k], resumed[k]) for k in whole)
    assert len({artifacts.verify(tmp_path / n, artifacts.MODEL)["digest"] for n in ("whole", "resumed")}) == 1
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_causal_model_learns_writes_and_is_a_base(
    small_text: Path, small_data: Path, tmp_path: Path, architecture: str
) -> None:
    config = PretrainConfig(**SETTINGS, architecture=architecture, tokenizer="bpe", epochs=1)
    manifest = pretrain(small_text, tmp_path / "model", config)
    metrics = manifest["metrics"]
    assert manifest["task"] == "causal-language-modelling"
    assert metrics["loss"] < 4.5
    assert 0 < metrics["bits_per_byte"] < 3
    assert metrics["sample"].strip()
    settings = FinetuneConfig(
        base_model=str(tmp_path / "model"), epochs=4, learning_rate=3e-3, batch_tokens=256, max_length=32, refit=False
    )
    tuned = finetune(small_data, tmp_path / "tuned", settings)
    assert tuned["metrics"]["curve"][-1]["validation_accuracy"] > 0.7


def test_stops_are_planned_before_training() -> None:
    config = PretrainConfig(sequence_length=128, batch_tokens=4096, epochs=2)
    assert config.plan.steps(rows=3200) == 200
    assert PretrainConfig(epochs=2, max_steps=50).plan.steps(rows=3200) == 50
    assert PretrainConfig(epochs=2, max_tokens=81920).plan.steps(rows=3200) == 20
    assert PretrainConfig(max_seconds=60, budget_usd=0.01, usd_per_hour=1.8).plan.max_seconds == pytest.approx(20)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("architecture", "t5"),
        ("size", "huge"),
        ("tokenizer", "words"),
        ("masking", "span"),
        ("mask_probability", 1.0),
        ("batch_tokens", 64),
        ("vocabulary_size", 10),
        ("max_seconds", -1.0),
        ("epochs", -1),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: got"):
        PretrainConfig(**{setting: value})  # type: ignore[arg-type]


def test_a_causal_model_needs_a_tokenizer_that_gives_text_back() -> None:
    with pytest.raises(ConfigurationError, match=r"^tokenizer: got 'wordpiece'; allowed: bpe"):
        PretrainConfig(architecture="gpt2")


def test_a_dataset_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    artifacts.seal(tmp_path / "data", artifacts.DATASET, {"rows": {}})
    with pytest.raises(ConfigurationError, match=r"^data: .* unlabelled\.parquet or train\.parquet"):
        pretrain(tmp_path / "data", tmp_path / "model", PretrainConfig())


def test_without_unlabelled_text_the_training_rows_are_read_and_it_says_so(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    manifest = pretrain(small_data, tmp_path / "model", PretrainConfig(**SETTINGS, max_steps=2))
    metrics = manifest["metrics"]
    train = artifacts.load(small_data, artifacts.DATASET)["rows"]["train"]
    assert metrics["trained_on"]["texts"] + metrics["computed_on"]["held_out_texts"] == train
    assert "the training rows' own text is used" in (tmp_path / "events.jsonl").read_text()


def test_too_little_text_is_refused(tmp_path: Path, small_text: Path) -> None:
    (tmp_path / "data").mkdir()
    few = pq.read_table(small_text / "unlabelled-00000.parquet").slice(0, 10)
    pq.write_table(few, tmp_path / "data" / "unlabelled.parquet")
    artifacts.seal(tmp_path / "data", artifacts.DATASET, {"rows": {"unlabelled": 10}})
    with pytest.raises(ConfigurationError, match=r"^data: got '10 texts'"):
        pretrain(tmp_path / "data", tmp_path / "model", PretrainConfig())
