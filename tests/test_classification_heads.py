"""Heads of classifiers that are fine-tuned further."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig
from undercut.classification_heads import describe_head, head_labels
from undercut.classifiers import load_base

LABELS = ["cancel", "refund", "track"]


def head(base: Path, labels: list[str], seed: int = 0) -> torch.Tensor:
    weight: torch.Tensor = load_base(base, labels, seed, False).classifier.weight.detach()
    return weight


@pytest.fixture
def stored(tiny_teacher: Path) -> torch.Tensor:
    return load_file(tiny_teacher / "model.safetensors")["classifier.weight"]


def test_the_labels_of_a_classifier_are_its_heads(tiny_teacher: Path, tiny_base: Path) -> None:
    assert head_labels(AutoConfig.from_pretrained(tiny_teacher)) == LABELS
    assert head_labels(AutoConfig.from_pretrained(tiny_base)) == []
    assert describe_head(tiny_base, LABELS) == ""


def test_the_same_labels_keep_the_head(tiny_teacher: Path, stored: torch.Tensor) -> None:
    assert torch.equal(head(tiny_teacher, LABELS), stored)
    assert describe_head(tiny_teacher, LABELS).endswith("3 of 3 labels go on with its head, 0 start afresh")


def test_labels_in_another_order_keep_their_own_weights(tiny_teacher: Path, stored: torch.Tensor) -> None:
    assert torch.equal(head(tiny_teacher, ["track", "cancel", "refund"]), stored[[2, 0, 1]])


def test_as_many_other_labels_start_afresh(tiny_teacher: Path, stored: torch.Tensor) -> None:
    found = head(tiny_teacher, ["cancel", "voucher", "track"])
    assert torch.equal(found[[0, 2]], stored[[0, 2]])
    assert not torch.isclose(found[1], stored[1]).any()
    assert 0.01 < found[1].std() < 0.03


def test_more_labels_keep_the_known_ones(tiny_teacher: Path, stored: torch.Tensor) -> None:
    model = load_base(tiny_teacher, ["a new one", *LABELS], 1, False)
    assert torch.equal(model.classifier.weight[1:], stored)
    assert model.classifier.bias[0] == 0
    assert model.config.id2label == dict(enumerate(["a new one", *LABELS]))
    assert torch.equal(head(tiny_teacher, ["a new one", *LABELS], 1), model.classifier.weight)


def test_the_backbone_stays(tiny_teacher: Path) -> None:
    kept = load_file(tiny_teacher / "model.safetensors")
    model = load_base(tiny_teacher, ["x", "y"], 0, False).state_dict()
    assert all(torch.equal(model[name], value) for name, value in kept.items() if name.startswith("bert."))
