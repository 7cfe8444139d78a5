from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from undercut.tasks.text_classification import TextClassification

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])


class Fixed(torch.nn.Module):
    """Answers with the same scores whatever it is asked."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=LOGITS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_spreads_a_share_of_each_target(tiny_base: Path, smoothing: float) -> None:
    task = TextClassification(tiny_base, 16, label_smoothing=smoothing)
    rows = task.encode(["cancel my order", "where is my refund"], np.array([0, 2]))
    loss = task.loss(Fixed(), task.collate(rows, np.array([0, 1])))
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]) * (1 - smoothing) + smoothing / 3
    assert float(loss) == pytest.approx(-float((targets * LOGITS.log_softmax(-1)).sum()), abs=1e-6)
