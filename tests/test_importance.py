from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from undercut.attention_heads import attentions
from undercut.encoders import feed_forwards, load_classifier, with_heads, with_widths
from undercut.importance import importance
from undercut.predictors import BatchTokenizer, pad

TEXTS = ["where is my refund", "cancel my order please", "has it shipped yet"]
LABELS = np.array([1, 0, 0])


def test_it_is_the_derivative_by_a_gate(tiny_teacher: Path) -> None:
    """Against the loss with one neuron, and one head of 16 numbers, scaled a little up and down."""
    model = load_classifier(tiny_teacher).eval().double()
    ids = BatchTokenizer(tiny_teacher, 32).ids(TEXTS)
    found = importance(model, ids, LABELS)
    step = 1e-3

    def loss(row: int) -> float:
        batch, mask = (torch.from_numpy(a) for a in pad([ids[row]]))
        with torch.inference_mode():
            logits = model(input_ids=batch, attention_mask=mask).logits
        return float(functional.cross_entropy(logits, torch.tensor(LABELS[row : row + 1])))

    def slope(product: torch.nn.Linear, inputs: slice) -> float:
        weight, slopes = product.weight.data[:, inputs].clone(), []
        for row in range(3):
            product.weight.data[:, inputs] = weight * (1 + step)
            above = loss(row)
            product.weight.data[:, inputs] = weight * (1 - step)
            slopes.append(abs(above - loss(row)) / (2 * step))
            product.weight.data[:, inputs] = weight
        return float(np.mean(slopes))

    assert float(found.neurons[1, 5]) == pytest.approx(slope(feed_forwards(model)[1][1], slice(5, 6)), rel=1e-3)
    assert float(found.heads[1][2]) == pytest.approx(slope(attentions(model)[1].output, slice(32, 48)), rel=1e-3)
    assert found.layers.shape == (2,)
    assert found.neurons.shape == (2, 128)
    assert [len(heads) for heads in found.heads] == [4, 4]
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


def test_heads_that_add_nothing_can_go_without_a_trace(tiny_teacher: Path) -> None:
    model = load_classifier(tiny_teacher).eval()
    kept = [torch.tensor([0, 3]), torch.tensor([1])]
    for part, heads in zip(attentions(model), kept, strict=True):
        for head in {*range(4)} - {*heads.tolist()}:
            part.output.weight.data[:, 16 * head : 16 * (head + 1)] = 0
    ids = BatchTokenizer(tiny_teacher, 32).ids(TEXTS)
    found = importance(model, ids, LABELS)
    assert float(found.heads[0][1]) == 0 == float(found.heads[1][0])
    small = with_heads(model, kept).eval()
    assert [part.heads for part in attentions(small)] == [2, 1]
    batch, mask = (torch.from_numpy(a) for a in pad(ids))
    with torch.inference_mode():
        before, after = (m(input_ids=batch, attention_mask=mask).logits for m in (model, small))
    assert torch.allclose(before, after, atol=1e-5)
