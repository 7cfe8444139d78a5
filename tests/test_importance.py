from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from undercut.encoders import feed_forwards, load_classifier, with_widths
from undercut.importance import importance
from undercut.predictors import BatchTokenizer, pad

TEXTS = ["where is my refund", "cancel my order please", "has it shipped yet"]
LABELS = np.array([1, 0, 0])


def test_it_is_the_derivative_by_a_gate(tiny_teacher: Path) -> None:
    """Against the loss with one neuron, and one layer, scaled a little up and down."""
    model = load_classifier(tiny_teacher).eval().double()
    ids = BatchTokenizer(tiny_teacher, 32).ids(TEXTS)
    found = importance(model, ids, LABELS)
    _, down = feed_forwards(model)[1]
    weight, neuron, step = down.weight.data[:, 5].clone(), 5, 1e-3

    def loss(row: int) -> float:
        batch, mask = (torch.from_numpy(a) for a in pad([ids[row]]))
        with torch.inference_mode():
            logits = model(input_ids=batch, attention_mask=mask).logits
        return float(functional.cross_entropy(logits, torch.tensor(LABELS[row : row + 1])))

    slopes = []
    for row in range(3):
        down.weight.data[:, neuron] = weight * (1 + step)
        above = loss(row)
        down.weight.data[:, neuron] = weight * (1 - step)
        slopes.append(abs(above - loss(row)) / (2 * step))
        down.weight.data[:, neuron] = weight
    assert float(found.neurons[1, neuron]) == pytest.approx(np.mean(slopes), rel=1e-3)
    assert found.layers.shape == (2,)
    assert found.neurons.shape == (2, 128)
    assert (found.neurons > 0).any()


def test_neurons_that_add_nothing_can_go_without_a_trace(tiny_teacher: Path) -> None:
    model = load_classifier(tiny_teacher).eval()
    kept = [torch.arange(0, 128, 2), torch.arange(1, 128, 2)]
    for (_, down), neurons in zip(feed_forwards(model), kept, strict=True):
        gone = torch.ones(128, dtype=torch.bool)
        gone[neurons] = False
        down.weight.data[:, gone] = 0
    ids = BatchTokenizer(tiny_teacher, 32).ids(TEXTS)
    found = importance(model, ids, LABELS)
    assert float(found.neurons[0, 1]) == 0 == float(found.neurons[1, 0])
    small = with_widths(model, kept).eval()
    assert small.config.intermediate_size == 64
    batch, mask = (torch.from_numpy(a) for a in pad(ids))
    with torch.inference_mode():
        before, after = (m(input_ids=batch, attention_mask=mask).logits for m in (model, small))
    assert torch.allclose(before, after, atol=1e-5)
