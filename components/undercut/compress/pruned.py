"""The structures ``pruned-P``, ``pruned-LxP``, ``pruned-LxPxH``: the least important parts cut out, the rest trained.

``pruned-50`` keeps the half of each layer's feed-forward neurons that matters most; ``pruned-4x50`` keeps
the four layers that matter most as well, and ``pruned-4x50x50`` half of their attention heads too. What
matters is measured by the gradient on training rows (:mod:`undercut.importance`). The weights are really
sliced: smaller products and smaller files. Every layer keeps as many neurons, because the stock
configurations have one width for all layers. Heads are ranked over all layers together, each layer's
importances divided by their root of squares (Michel et al. 2019), so that layers keep different numbers of
them, one at least; how many stands in ``parameters.heads``. A short training on the teacher's answers recovers
what the cut cost (as in Sanh et al. 2020 and Xia et al. 2022, who distil while they prune).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from undercut import artifacts, events
from undercut.compress.structures import Inputs
from undercut.errors import CandidateLost
from undercut.predictors import BatchTokenizer

if TYPE_CHECKING:
    import torch

ARGUMENT = r"|([1-9]\d?x)?[1-9]\d?|[1-9]\d?x(100|[1-9]\d?)x[1-9]\d?"
FORMS = (
    "pruned, pruned-P (P percent of feed-forward neurons stay), pruned-LxP (and L layers) or pruned-LxPxH "
    "(and H percent of their attention heads)"
)
DEFAULT_PERCENT = 50
IMPORTANCE_ROWS = 1024
EPOCHS = 4
# Widths in whole vector registers: a product of 770 columns is no faster than one of 784.
MULTIPLE = 16


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What stays: layers, percent of feed-forward neurons, percent of attention heads."""

    layers: int
    neurons: int = DEFAULT_PERCENT
    heads: int = 100

    @classmethod
    def of(cls, argument: str, total: int) -> "Sizes":
        """Read ``P``, ``LxP``, ``LxPxH`` or nothing, for a teacher of ``total`` layers.

        Raises:
            CandidateLost: the teacher has fewer layers.
        """
        numbers = [int(number) for number in argument.split("x") if number]
        if len(numbers) < 2:
            numbers = [total, *numbers]
        if numbers[0] > total:
            raise CandidateLost(f"{numbers[0]} layers cannot stay of {total}")
        return cls(**dict(zip(("layers", "neurons", "heads"), numbers, strict=False)))


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Prune the teacher, train what is left, and write a sealed model folder.

    Args:
        inputs: the fine-tuned model and the dataset; importance is measured on training rows.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        argument: ``P``, ``LxP`` or ``LxPxH``; empty for 50.
        seed: of the rows that importance is measured on, the order of batches and dropout.

    Raises:
        CandidateLost: the teacher has fewer layers than asked for, or parts that cannot be sliced.
    """
    import torch

    from undercut.attention_heads import sliceable_attentions
    from undercut.encoders import layer_list, load_classifier, with_heads, with_layers, with_widths
    from undercut.importance import importance
    from undercut.learning import LearningConfig, learn, write_student

    teacher, data = inputs.teacher, inputs.data
    manifest = artifacts.verify(teacher, artifacts.MODEL)
    model = load_classifier(teacher)
    total = len(layer_list(model)[1])
    sizes = Sizes.of(argument, total)
    if sizes.heads < 100:
        sliceable_attentions(model)
    texts, labels = artifacts.texts_and_labels(data, "train")
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:IMPORTANCE_ROWS])
    ids = BatchTokenizer(teacher, manifest["max_length"]).ids([texts[i] for i in rows])
    events.message(f"measuring what layers, heads and neurons matter, on {len(rows):,} rows")
    matters = importance(model, ids, labels[rows])
    layers = sorted(torch.topk(matters.layers, sizes.layers).indices.tolist())
    width = kept_width(model.config.intermediate_size, sizes.neurons)
    neurons = [torch.topk(matters.neurons[layer], width).indices.sort().values for layer in layers]
    student = with_widths(with_layers(model, layers), neurons)
    cut = f"layers {', '.join(str(layer + 1) for layer in layers)} of {total}"
    if sizes.heads < 100:
        importances = [matters.heads[layer] for layer in layers]
        heads = kept_heads(importances, sizes.heads)
        student = with_heads(student, heads)
        cut += f", {sum(map(len, heads))} of their {sum(map(len, importances))} attention heads"
    structure = f"pruned-{argument}" if argument else "pruned"
    config = LearningConfig(epochs=EPOCHS, seed=seed)
    result = learn(student, layers, teacher, data, structure, config)
    method = (
        f"pruned to {cut} and {width} of {model.config.intermediate_size} feed-forward neurons "
        "by gradient importance, then trained on the fine-tuned model's answers"
    )
    parameters = {**asdict(config), "layers": layers, "feed_forward_width": width}
    write_student(student, teacher, output, structure, method, result, parameters)


def kept_heads(importances: "Sequence[torch.Tensor]", percent: int) -> "list[torch.Tensor]":
    """Return the indices of each layer's heads that stay, in rising order, at least one a layer.

    Args:
        importances: of each layer's heads, shape (heads,).
        percent: of all layers' heads together.
    """
    import torch

    shares = [values / values.norm().clamp_min(1e-12) for values in importances]
    stay = {(layer, int(values.argmax())) for layer, values in enumerate(shares)}
    ranked = sorted(
        ((layer, head) for layer, values in enumerate(shares) for head in range(len(values))),
        key=lambda place: -float(shares[place[0]][place[1]]),
    )
    wanted = max(len(stay), round(len(ranked) * percent / 100))
    others = [place for place in ranked if place not in stay]
    stay.update(others[: wanted - len(stay)])
    return [torch.tensor(sorted(h for layer, h in stay if layer == i)) for i in range(len(shares))]


def kept_width(width: int, percent: int) -> int:
    """Return ``percent`` of ``width``, as a multiple of 16 where there is one below ``width``."""
    wanted = max(1, round(width * percent / 100))
    whole = round(wanted / MULTIPLE) * MULTIPLE
    return whole if 0 < whole < width else wanted
