"""How much each layer, attention head and feed-forward neuron of a classifier matters, by the gradient on real rows.

The importance of a part is the mean over rows of |dL/dg|, where g = 1 is a gate that multiplies what the
part adds: how far the loss would move if the part were taken away, to first order (Michel et al. 2019,
"Are sixteen heads really better than one?", who gate heads; Molchanov et al. 2019, "Importance estimation
for neural network pruning"). All gates come out of one backward pass a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PreTrainedModel

from undercut import events
from undercut.attention_heads import attentions
from undercut.batching import length_batches
from undercut.encoders import feed_forwards
from undercut.predictors import pad

BATCH_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Importance:
    """``layers`` has shape (layers,), ``neurons`` (layers, feed-forward width); ``heads`` one (heads,) a layer.

    ``heads`` is empty where the architecture's attention is not BERT's.
    """

    layers: torch.Tensor
    neurons: torch.Tensor
    heads: tuple[torch.Tensor, ...]


def importance(model: PreTrainedModel, ids: Sequence[Sequence[int]], labels: NDArray[np.int64]) -> Importance:
    """Return the importance of each part for the cross-entropy on labelled rows.

    Args:
        model: a classifier; left as it was.
        ids: token ids of each row.
        labels: label index of each row, shape (rows,), or zeros and ones, shape (rows, labels).
    """
    model.eval()  # type: ignore[no-untyped-call]
    pairs, parts = feed_forwards(model), attentions(model)
    inputs: dict[torch.nn.Module, torch.Tensor] = {}

    def keep(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        arguments[0].retain_grad()
        inputs[module] = arguments[0]

    def gated(module: torch.nn.Module) -> torch.Tensor:
        """Return each row's derivative by a gate on each of the module's inputs, shape (rows, inputs)."""
        gradient = inputs[module].grad
        assert gradient is not None, "retained above"
        return (inputs[module].detach() * gradient).sum(dim=1)

    products = [down for _, down in pairs] + [part.output for part in parts]
    hooks = [product.register_forward_pre_hook(keep) for product in products]
    layers = torch.zeros(len(pairs))
    heads = [torch.zeros(part.heads) for part in parts]
    neurons = torch.zeros(len(pairs), pairs[0][1].in_features)
    done = 0
    for rows in length_batches(np.array([len(row) for row in ids]), BATCH_TOKENS, seed=None):
        batch, mask = (torch.from_numpy(a) for a in pad([ids[i] for i in rows]))
        inputs.clear()
        found = model(input_ids=batch, attention_mask=mask, output_hidden_states=True)
        for state in found.hidden_states:
            state.retain_grad()
        _loss(found.logits, torch.from_numpy(labels[rows])).backward()  # type: ignore[no-untyped-call]
        for i, (before, after) in enumerate(zip(found.hidden_states, found.hidden_states[1:], strict=False)):
            layers[i] += ((after - before).detach() * after.grad).sum(dim=(1, 2)).abs().sum()
            neurons[i] += gated(pairs[i][1]).abs().sum(dim=0)
        for part, found_heads in zip(parts, heads, strict=True):
            gates = gated(part.output).unflatten(1, (part.heads, part.head_size)).sum(dim=2)
            found_heads += gates.abs().sum(dim=0)
        model.zero_grad(set_to_none=True)
        done += len(rows)
        events.progress(done, len(ids), "measuring what each part matters")
    for hook in hooks:
        hook.remove()
    count = len(ids)
    return Importance(layers=layers / count, neurons=neurons / count, heads=tuple(h / count for h in heads))


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if labels.dim() == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
    return functional.cross_entropy(logits, labels, reduction="sum")
