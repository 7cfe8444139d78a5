from pathlib import Path

import numpy as np
import pytest
import torch
from undercut.encoders import even_layers, load_classifier, pooled, with_layers
from undercut.optimization import choose_precision
from undercut.tasks.distillation import Distillation, divergence
from undercut.teaching import ask

TEXTS = ["where is my refund", "cancel my order please", "has it shipped yet"]


def test_layers_are_spaced_evenly_and_end_with_the_last() -> None:
    assert even_layers(6, 3) == [1, 3, 5]
    assert even_layers(6, 2) == [2, 5]
    assert even_layers(6, 1) == [5]
    assert even_layers(12, 4) == [2, 5, 8, 11]
    assert even_layers(6, 5) == [0, 1, 3, 4, 5]


def test_a_mean_over_real_tokens_only() -> None:
    states = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = pooled([states, states + 1], mask)
    assert found.shape == (2, 2, 2, 4)
    assert torch.equal(found[:, 0, 0], states[:, 0])
    assert torch.equal(found[0, 0, 1], (states[0, 0] + states[0, 1]) / 2)
    assert torch.equal(found[1, 1, 1], states[1, 0] + 1)


def test_the_divergence_is_zero_at_the_teacher() -> None:
    teacher, student = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[2.0, 1.0, -1.0]])
    assert divergence(teacher + 5, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    p, q = (torch.softmax(x / 2, -1) for x in (teacher, student))
    assert divergence(student, teacher, 2.0).item() == pytest.approx(4 * (p * (p / q).log()).sum().item(), abs=1e-6)


def test_the_teacher_itself_has_no_state_loss_and_unlabelled_rows_count(tiny_teacher: Path) -> None:
    model = load_classifier(tiny_teacher).eval()
    answers = ask(tiny_teacher, TEXTS, [0, 1])
    losses = []
    for weight in (0.0, 1.0):
        task = Distillation(tiny_teacher, 32, label_weight=0.5, state_weight=weight, temperature=1.0)
        rows = task.taught(TEXTS, np.array([1, 0, -100]), answers)
        assert task.metrics(model, rows, choose_precision("cpu"))["agreement"] == 1.0
        losses.append(task.loss(model, task.collate(rows, np.array([0, 1, 2]))).item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    alone = task.loss(model, task.collate(rows, np.array([2]))).item()
    assert losses[0] > 0, "labelled rows also differ from their labels"
    assert alone == pytest.approx(0, abs=1e-2)


def test_a_student_answers_as_its_layers_do(tiny_teacher: Path) -> None:
    model = load_classifier(tiny_teacher).eval()
    same, one = with_layers(model, [0, 1]).eval(), with_layers(model, [0]).eval()
    batch = {"input_ids": torch.tensor([[2, 40, 41, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.inference_mode():
        whole = model(**batch, output_hidden_states=True)
        assert torch.equal(same(**batch).logits, whole.logits)
        assert torch.equal(one(**batch, output_hidden_states=True).hidden_states[1], whole.hidden_states[1])
