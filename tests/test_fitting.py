from pathlib import Path

import numpy as np
import pytest
import torch
from undercut import artifacts
from undercut.classifiers import load_base
from undercut.fitting import FitConfig, FitResult, fit
from undercut.optimization import Precision, choose_precision
from undercut.tasks.protocol import Encoded
from undercut.tasks.text_classification import TextClassification
from undercut.training import LoopConfig

LABELS = ["cancel", "refund", "track"]


class Fitted:
    """A tiny encoder fitted to the first 120 rows, and the rows that chose its epoch."""

    def __init__(self, data: Path, base: Path, folder: Path, held_labels: int = 0, **loop: object) -> None:
        self.task = TextClassification(base, 64)
        self.model = load_base(base, LABELS, seed=0, train_embeddings=False)
        self.embeddings = self.model.get_input_embeddings().weight.clone()
        texts, labels = artifacts.texts_and_labels(data, "train")
        held_texts, held = artifacts.texts_and_labels(data, "validation")
        # Turned labels: what is learned from the training rows is wrong on these, more so with each epoch.
        self.held = self.task.encode(held_texts[:60], (held[:60] + held_labels) % 3)
        config = FitConfig(
            loop=LoopConfig(**{"learning_rate": 3e-3, "checkpoint_seconds": 0.0, "epochs": 4, **loop}),
            batch_tokens=256,
            patience=2,
        )
        train = self.task.encode(texts[:120], labels[:120])
        self.result: FitResult = fit(self.model, self.task, train, self.held, config, folder)

    def loss(self) -> float:
        """Return the loss on the held-out rows with the weights that the model has now."""
        return float(self.task.metrics(self.model, self.held, choose_precision("cpu"))["loss"])


@pytest.fixture(scope="module")
def worsening(small_data: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return Fitted(small_data, tiny_base, tmp_path_factory.mktemp("fit"), held_labels=1, epochs=12, learning_rate=2e-3)


def test_it_stops_when_patience_is_over_and_keeps_the_best_epoch(worsening: Fitted) -> None:
    result = worsening.result
    losses = [point["validation_loss"] for point in result.curve]
    assert result.stopped_by == "early stopping"
    assert result.best_epoch == int(np.argmin(losses)) + 1
    assert result.epochs == len(losses) == result.best_epoch + 2 < 12
    assert worsening.loss() == pytest.approx(min(losses), abs=1e-4)


def test_what_does_not_train_stays_as_it_was(worsening: Fitted) -> None:
    assert torch.equal(worsening.model.get_input_embeddings().weight, worsening.embeddings)
    assert not worsening.model.training


def test_time_ends_it_with_the_best_weights_so_far(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    fitted = Fitted(small_data, tiny_base, tmp_path, max_seconds=1e-9)
    (point,) = fitted.result.curve
    assert (fitted.result.stopped_by, fitted.result.best_epoch, point["step"]) == ("max_seconds", 1, 1)
    assert fitted.loss() == pytest.approx(point["validation_loss"], abs=1e-4)


def test_each_row_weighs_the_same_whatever_its_batch(tiny_base: Path, tmp_path: Path) -> None:
    """One step over one batch of many rows has the gradient of the mean loss."""
    task = TextClassification(tiny_base, 64)
    rows: Encoded = task.encode(["refund", "cancel now", "where is it"], np.array([1, 0, 2]))
    model = load_base(tiny_base, LABELS, seed=0, train_embeddings=False)
    loop = LoopConfig(epochs=1, learning_rate=0.0, checkpoint_seconds=0.0, maximum_gradient_norm=1e9)
    result = fit(model, task, rows, None, FitConfig(loop=loop, batch_tokens=64), tmp_path)
    model.train(False)
    expected = task.metrics(model, rows, Precision(device="cpu", bf16=False))["loss"]
    assert result.curve[0]["train_loss"] == pytest.approx(expected, abs=0.1)
    assert result.curve[0]["step"] == 1
