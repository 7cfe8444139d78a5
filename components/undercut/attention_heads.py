"""Attention heads of an encoder: find them, keep some of them, give a stock model the shapes of what was kept.

The stock classes of the BERT family build every layer with hidden size / head size heads, and no
configuration says otherwise (transformers 5 no longer reads ``pruned_heads``). Their forward pass, however,
takes the number of heads from the projections' width: so the stock class with narrower projections computes
with fewer heads. ``model.json`` says how many each layer has, in ``parameters.heads``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from undercut.errors import CandidateLost

QUERY = re.compile(r"\.layer\.\d+\.attention\.self\.query$")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """A layer's self-attention: the names of its four products in the model, and the size of a head."""

    module: torch.nn.Module
    output: torch.nn.Linear
    name: str
    output_name: str
    head_size: int

    @property
    def inputs(self) -> dict[str, torch.nn.Linear]:
        """Return query, key and value: each from the hidden size to heads times head size."""
        found = {f"{self.name}.{part}": self.module.get_submodule(part) for part in ("query", "key", "value")}
        return {name: linear for name, linear in found.items() if isinstance(linear, torch.nn.Linear)}

    @property
    def heads(self) -> int:
        """Return how many heads there are."""
        return self.output.in_features // self.head_size


def attentions(model: PreTrainedModel) -> list[Attention]:
    """Return each layer's self-attention, lowest first; nothing for architectures that name it otherwise."""
    found = []
    for name in (name for name, _ in model.named_modules() if QUERY.search(name)):
        module_name = name.removesuffix(".query")
        output_name = module_name.removesuffix(".self") + ".output.dense"
        module, output = model.get_submodule(module_name), model.get_submodule(output_name)
        size = getattr(module, "attention_head_size", 0)
        if isinstance(output, torch.nn.Linear) and isinstance(size, int) and size:
            found.append(
                Attention(module=module, output=output, name=module_name, output_name=output_name, head_size=size)
            )
    return found


def sliceable_attentions(model: PreTrainedModel) -> list[Attention]:
    """Return each layer's self-attention.

    Raises:
        CandidateLost: the architecture's attention is of another form.
    """
    found = attentions(model)
    if len(found) != model.config.num_hidden_layers:
        raise CandidateLost(f"the attention of {type(model).__name__} is not that of BERT: cannot slice its heads")
    return found


def head_counts(model: PreTrainedModel) -> list[int] | None:
    """Return how many heads each layer has; None where all have as many as the configuration says."""
    counts = [part.heads for part in attentions(model)]
    return None if all(count == model.config.num_attention_heads for count in counts) else counts


def sliced(model: PreTrainedModel, kept: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the model's weights with only some heads of each layer.

    Args:
        model: a classifier.
        kept: for each layer the indices of its heads that stay, in rising order.

    Raises:
        CandidateLost: the architecture's attention is of another form.
    """
    weights = dict(model.state_dict())
    for part, heads in zip(sliceable_attentions(model), kept, strict=True):
        rows = (heads[:, None] * part.head_size + torch.arange(part.head_size)).flatten()
        for name, linear in part.inputs.items():
            weights[f"{name}.weight"] = linear.weight.detach()[rows]
            weights[f"{name}.bias"] = linear.bias.detach()[rows]
        weights[f"{part.output_name}.weight"] = part.output.weight.detach()[:, rows]
    return weights


def narrow(model: PreTrainedModel, heads: Sequence[int]) -> None:
    """Cut a model's projections, in place, to the shapes of so many heads a layer; the weights come later.

    Raises:
        CandidateLost: the architecture's attention is of another form.
    """
    for part, count in zip(sliceable_attentions(model), heads, strict=True):
        width = count * part.head_size
        for linear in part.inputs.values():
            linear.weight = torch.nn.Parameter(linear.weight.detach()[:width].clone())
            linear.bias = torch.nn.Parameter(linear.bias.detach()[:width].clone())
            linear.out_features = width
        part.output.weight = torch.nn.Parameter(part.output.weight.detach()[:, :width].clone())
        part.output.in_features = width
