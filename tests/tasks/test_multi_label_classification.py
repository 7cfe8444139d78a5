from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from undercut.optimization import choose_precision
from undercut.tasks.multi_label_classification import MultiLabelClassification, balanced_positive_weights

TEXTS = ["where is my parcel", "money back now", "hello there", "has it shipped yet"]
LABELS = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
SCORES = torch.tensor([[2.0, -1.0, -0.5], [-3.0, 0.5, 0.1], [-1.0, -2.0, -0.2], [1.0, -1.0, -1.0]])


class Scores(torch.nn.Module):
    """Answers any rows with the scores of their first token ids, whatever the batch's order."""

    def __init__(self, first: list[int]) -> None:
        super().__init__()
        self.first = first

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=SCORES[[self.first.index(int(row[1])) for row in input_ids]])


def expected(positive: float = 1.0, smoothing: float = 0.0) -> float:
    """The sum over rows and labels of the binary cross-entropy, in plain numpy."""
    p, y = 1 / (1 + np.exp(-SCORES.numpy().astype(np.float64))), LABELS * (1 - smoothing) + smoothing / 2
    return -float((positive * y * np.log(p) + (1 - y) * np.log(1 - p)).sum())


@pytest.mark.parametrize(("positive", "smoothing"), [(1.0, 0.0), (3.0, 0.0), (1.0, 0.2)])
def test_the_loss_is_the_binary_cross_entropy_summed(tiny_base: Path, positive: float, smoothing: float) -> None:
    weights = np.full(3, positive) if positive != 1 else None
    task = MultiLabelClassification(tiny_base, 16, weights, smoothing)
    rows = task.encode(TEXTS, LABELS)
    model = Scores([row[1] for row in rows.ids])
    batch = task.collate(rows, np.array([3, 0, 1, 2]))
    assert batch["labels"].tolist() == LABELS[[3, 0, 1, 2]].tolist()
    assert float(task.loss(model, batch)) == pytest.approx(expected(positive, smoothing), rel=1e-5)


def test_figures_on_held_out_rows(tiny_base: Path) -> None:
    task = MultiLabelClassification(tiny_base, 16, np.full(3, 5.0), 0.3)
    rows = task.encode(TEXTS, LABELS)
    found = task.metrics(Scores([row[1] for row in rows.ids]), rows, choose_precision("cpu"))
    assert found["loss"] == pytest.approx(expected() / 4, rel=1e-5)
    assert found["accuracy"] == 0.5
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))


def test_balanced_weights_make_both_sides_weigh_the_same() -> None:
    weights = balanced_positive_weights(LABELS)
    assert weights.tolist() == [1.0, 3.0, 3.0]
    assert balanced_positive_weights(np.zeros((5, 1), np.int64)).tolist() == [4.0]
