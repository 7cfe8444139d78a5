"""The head of a classifier that is fine-tuned further: what it knows about labels stays, whatever their order.

A base that is a classifier has an output of its own for each label. Read with other labels it would either
be refused for its shape or, worse, keep outputs that stand for something else.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

WEIGHTS = "model.safetensors"


def head_labels(config: PretrainedConfig) -> list[str]:
    """Return the labels that a base's own classification head answers, in order; none if it has no such head."""
    kinds: Sequence[str] = config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return []
    names = {int(i): str(label) for i, label in (config.id2label or {}).items()}
    return [names[i] for i in sorted(names)]


def describe_head(base: Path, labels: Sequence[str]) -> str:
    """Say what becomes of the base's own head with these labels; empty if it has none."""
    known = head_labels(AutoConfig.from_pretrained(base, local_files_only=True))
    kept = len({*known} & {*labels})
    if not known:
        return ""
    fresh = len(labels) - kept
    return f"the base is a classifier: {kept} of {len(labels)} labels go on with its head, {fresh} start afresh"


def reorder_head(model: PreTrainedModel, base: Path, known: Sequence[str], labels: Sequence[str]) -> None:
    """Give each output of ``model`` the base's weights for its label, in place; new labels start afresh.

    Args:
        model: a classifier for ``labels``, loaded from ``base`` without regard to a head of another shape.
        base: folder of the base, a classifier.
        known: the labels of its head.
        labels: the labels wanted.
    """
    name, layer = _output_layer(model, len(labels))
    kept = [label for label in labels if label in known]
    with safe_open(base / WEIGHTS, framework="pt") as stored, torch.no_grad():
        old: dict[str, torch.Tensor] = {part: stored.get_tensor(key) for part, key in _parts(stored, name).items()}
        layer.weight.normal_(0.0, float(getattr(model.config, "initializer_range", 0.02)))
        if layer.bias is not None:
            layer.bias.zero_()
        for part, tensor in old.items():
            target: torch.Tensor = getattr(layer, part)
            for label in kept:
                target[labels.index(label)] = tensor[known.index(label)].to(target.dtype)


def _output_layer(model: PreTrainedModel, count: int) -> tuple[str, torch.nn.Linear]:
    """Return the last linear layer beside the backbone with an output for each label."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == count
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    assert found, f"{type(model).__name__} has no output of {count} labels beside its backbone"
    return found[-1]


def _parts(stored: Any, name: str) -> dict[str, str]:
    """Return the names of the layer's tensors in the file, by part: weight and bias."""
    pattern = re.compile(rf"{re.escape(name)}\.(weight|bias)")
    return {match[1]: match[0] for match in map(pattern.fullmatch, stored.keys()) if match}
