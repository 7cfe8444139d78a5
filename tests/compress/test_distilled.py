import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification
from undercut import artifacts
from undercut.compress.structures import compress
from undercut.encoders import load_classifier
from undercut.learning import LearningConfig, learn
from undercut.optimization import choose_precision
from undercut.predictors import load_predictor
from undercut.tasks.distillation import Distillation
from undercut.teaching import ask

from tests.kills import kill_when


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, data_with_unlabelled: Path, tiny_teacher: Path) -> Path:
    folder = tmp_path_factory.mktemp("student") / "model"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERCUT_HOME", str(folder.parent / "home"))
    patch.setenv("UNDERCUT_EVENTS", str(folder.parent / "events.jsonl"))
    compress("distilled-1", tiny_teacher, data_with_unlabelled, folder, seed=0)
    patch.undo()
    return folder


def test_a_student_of_one_layer_learns_the_task(student: Path, small_data: Path, tiny_teacher: Path) -> None:
    manifest, teacher = (artifacts.verify(p, artifacts.MODEL) for p in (student, tiny_teacher))
    assert manifest["structure"] == "distilled-1"
    assert manifest["format"] == "torch"
    assert manifest["parameters"]["layers"] == [1]
    assert manifest["parameter_count"] == teacher["parameter_count"] - 33_472  # one layer of width 64 and 128
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    probabilities = load_predictor(student).probabilities(texts)
    assert (probabilities.argmax(1) == labels).mean() > 0.97
    assert len(manifest["metrics"]["curve"]) == manifest["parameters"]["epochs"]


@pytest.mark.slow
def test_a_student_that_knows_nothing_learns_from_the_answers_alone(
    data_with_unlabelled: Path, small_data: Path, tiny_teacher: Path
) -> None:
    teacher = load_classifier(tiny_teacher).eval()
    torch.manual_seed(0)
    blank = AutoModelForSequenceClassification.from_config(teacher.config, attn_implementation="eager")
    blank.get_input_embeddings().weight.data = teacher.get_input_embeddings().weight.data.clone()
    config = LearningConfig(epochs=6, learning_rate=3e-3, batch_tokens=256, label_weight=0.0)
    result = learn(blank, [0, 1], tiny_teacher, data_with_unlabelled, "blank", config)
    losses = [point["train_loss"] for point in result.curve]
    assert losses[-1] < 0.3 * losses[0]
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    answers = ask(tiny_teacher, texts)
    task = Distillation(tiny_teacher, 64, label_weight=0.0, state_weight=0.0, temperature=1.0)
    figures = task.metrics(blank, task.taught(texts, labels, answers), choose_precision("cpu"))
    assert figures["agreement"] > 0.97
    assert figures["loss"] < 0.1


def test_the_stock_class_loads_it(student: Path) -> None:
    loaded = AutoModelForSequenceClassification.from_pretrained(student, local_files_only=True)
    assert loaded.config.num_hidden_layers == len(loaded.bert.encoder.layer) == 1


def test_it_learns_from_unlabelled_texts_too(student: Path) -> None:
    assert "460 labelled rows and 40 unlabelled texts" in (student.parent / "events.jsonl").read_text()


def test_a_student_as_deep_as_its_teacher_is_lost(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    compress("distilled-2", tiny_teacher, small_data, tmp_path / "model", seed=0)
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert manifest["lost"] == "a student of 2 layers is no smaller than its teacher of 2"
    assert manifest["structure"] == "distilled-2"
    assert manifest["files"] == {}


TRAIN = """
import sys
from pathlib import Path
from undercut import learning
from undercut.encoders import load_classifier, with_layers
teacher, data, output = map(Path, sys.argv[1:])
student = with_layers(load_classifier(teacher), [1])
config = learning.LearningConfig(epochs=3, batch_tokens=256, checkpoint_seconds=0.001)
result = learning.learn(student, [1], teacher, data, "distilled-1", config)
learning.write_student(student, teacher, output, "distilled-1", "", result, {})
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"

    def start(output: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", TRAIN, str(tiny_teacher), str(small_data), str(tmp_path / output)]
        return subprocess.Popen(command, env={**os.environ, "UNDERCUT_EVENTS": str(events)})

    assert start("whole").wait() == 0
    events.unlink()
    victim = start("resumed")
    kill_when(victim, events, '"message": "epoch', 20)
    events.unlink()
    assert start("resumed").wait() == 0
    kinds = [json.loads(line) for line in events.read_text().splitlines()]
    assert any("resumed at step" in e.get("message", "") for e in kinds)
    assert not any(e.get("message") == "asking the teacher" for e in kinds), "the answers were kept"
    whole, resumed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "resumed"))
    assert all(np.array_equal(whole[k], resumed[k]) for k in whole)
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []
