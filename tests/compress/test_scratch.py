import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification
from undercut import artifacts
from undercut.compress.scratch import epochs
from undercut.compress.structures import compress
from undercut.deploy.description import requirements
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.predictors import load_predictor
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.settings import PretrainConfig
from undercut.profile.measure import ProfileConfig, profile
from undercut.quantize.export import QuantizeConfig, quantize

SIZES = {"size": "tiny", "vocabulary_size": 400, "sequence_length": 32, "batch_tokens": 512, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, small_text: Path) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERCUT_HOME", str(folder.parent / "home"))
    pretrain(small_text, folder, PretrainConfig(**SIZES, epochs=1))
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def scratch(
    tmp_path_factory: pytest.TempPathFactory, pretrained: Path, data_with_unlabelled: Path, tiny_teacher: Path
) -> Path:
    folder = tmp_path_factory.mktemp("scratch") / "model"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERCUT_HOME", str(folder.parent / "home"))
    patch.setenv("UNDERCUT_EVENTS", str(folder.parent / "events.jsonl"))
    compress("scratch", tiny_teacher, data_with_unlabelled, folder, seed=0, scratch=pretrained)
    patch.undo()
    return folder


@pytest.mark.slow
def test_it_learns_the_task_with_a_vocabulary_of_its_own(
    scratch: Path, pretrained: Path, small_data: Path, tiny_teacher: Path
) -> None:
    made, before, teacher = (artifacts.verify(p, artifacts.MODEL) for p in (scratch, pretrained, tiny_teacher))
    assert (made["structure"], made["format"], made["base_model"]) == ("scratch", "torch", None)
    assert made["parameters"]["pretrained"] == before["digest"]
    assert made["files"]["tokenizer.json"] == before["files"]["tokenizer.json"] != teacher["files"]["tokenizer.json"]
    assert (made["labels"], made["max_length"], teacher["max_length"]) == (teacher["labels"], 32, 64)
    assert made["method"].startswith("masked language modelling from scratch")
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    assert (load_predictor(scratch).probabilities(texts).argmax(1) == labels).mean() > 0.95
    assert "460 labelled rows and 40 unlabelled texts" in (scratch.parent / "events.jsonl").read_text()
    assert list((scratch.parent / "home" / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_it_starts_from_the_pretrained_weights(scratch: Path, pretrained: Path) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    before, after = (load_file(p / "model.safetensors")[name] for p in (pretrained, scratch))
    distance, size = float(abs(before - after).mean()), float(abs(before).mean())
    assert 0 < distance < size
    loaded = AutoModelForSequenceClassification.from_pretrained(scratch, local_files_only=True)
    assert loaded.config.num_labels == 3


@pytest.mark.slow
def test_every_form_of_it_is_measured(scratch: Path, small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    models = []
    for precision in ("as-is", "fp32", "int8"):
        model = tmp_path / precision
        made = quantize(scratch, small_data, model, QuantizeConfig(precision=precision))
        assert made["lost"] == ""
        models.append(model)
    figures = evaluate(models[2], small_data, tmp_path / "evaluation", EvaluateConfig())
    assert figures["candidate"] == "scratch/int8"
    assert figures["metrics"]["accuracy"]["value"] > 0.95
    settings = ProfileConfig(rounds=1, seconds_per_cell=0.02)
    speeds = profile(models, tiny_teacher, small_data, tmp_path / "profiles", settings)["profiles"]
    assert [p["candidate"] for p in speeds] == ["scratch/as-is", "scratch/fp32", "scratch/int8"]
    assert speeds[2]["bytes"] < speeds[1]["bytes"]
    assert "onnxruntime" in " ".join(requirements(artifacts.load(models[2], artifacts.MODEL)))


@pytest.mark.parametrize(("texts", "passes"), [(100, 40), (2000, 30), (50_000, 8)])
def test_fewer_texts_are_seen_more_often(texts: int, passes: int) -> None:
    assert epochs(texts) == passes


def test_without_such_a_model_it_is_lost(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    compress("scratch", tiny_teacher, small_data, tmp_path / "model", seed=0)
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert manifest["lost"] == "there is no model pretrained from scratch to start from"
    assert (manifest["structure"], manifest["files"]) == ("scratch", {})


def test_where_pretraining_was_left_out_it_is_lost_and_says_why(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    pretrain(tmp_path / "nowhere", tmp_path / "pretrained", PretrainConfig(epochs=0))
    assert artifacts.verify(tmp_path / "pretrained", artifacts.MODEL)["lost"] == "pretraining was left out"
    compress("scratch", tiny_teacher, small_data, tmp_path / "model", seed=0, scratch=tmp_path / "pretrained")
    lost = json.loads((tmp_path / "model" / "model.json").read_text())["lost"]
    assert lost == "there is no model pretrained from scratch to start from: pretraining was left out"


@pytest.mark.slow
def test_a_tampered_model_is_refused(pretrained: Path, small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    artifacts.copy_files(pretrained, tmp_path / "other", ["model.json", "config.json", "model.safetensors"])
    with pytest.raises(ConfigurationError, match=r"other/tokenizer\.json"):
        compress("scratch", tiny_teacher, small_data, tmp_path / "model", seed=0, scratch=tmp_path / "other")
