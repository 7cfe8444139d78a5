"""The structures ``pruned-P`` and ``pruned-LxP``: the least important parts cut out, the rest trained on.

``pruned-50`` keeps the half of each layer's feed-forward neurons that matters most; ``pruned-4x50`` keeps
the four layers that matter most as well. What matters is measured by the gradient on training rows
(:mod:`undercut.importance`). The weights are really sliced: a smaller configuration and smaller files,
which the stock class loads. Every layer keeps as many neurons, because the stock configurations have one
width for all layers; and attention heads stay, because those configurations give a head the size
hidden size / heads, so that fewer heads of the same size cannot be written down (transformers 5 no longer
reads ``pruned_heads``). A short training on the teacher's answers recovers what the cut cost (as in Sanh et
al. 2020 and Xia et al. 2022, who distil while they prune).
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from undercut import artifacts, events
from undercut.compress.structures import Inputs
from undercut.errors import CandidateLost
from undercut.predictors import BatchTokenizer

ARGUMENT = r"|([1-9]\d?x)?[1-9]\d?"
FORMS = "pruned, pruned-P (P percent of feed-forward neurons stay) or pruned-LxP (and L layers)"
DEFAULT_PERCENT = 50
IMPORTANCE_ROWS = 1024
EPOCHS = 4
# Widths in whole vector registers: a product of 770 columns is no faster than one of 784.
MULTIPLE = 16


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Prune the teacher, train what is left, and write a sealed model folder.

    Args:
        inputs: the fine-tuned model and the dataset; importance is measured on training rows.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        argument: ``P`` or ``LxP``; empty for 50.
        seed: of the rows that importance is measured on, the order of batches and dropout.

    Raises:
        CandidateLost: the teacher has fewer layers than asked for, or parts that cannot be sliced.
    """
    import torch

    from undercut.encoders import layer_list, load_classifier, with_layers, with_widths
    from undercut.importance import importance
    from undercut.learning import LearningConfig, learn, write_student

    teacher, data = inputs.teacher, inputs.data
    manifest = artifacts.verify(teacher, artifacts.MODEL)
    model = load_classifier(teacher)
    total = len(layer_list(model)[1])
    depth, percent = sizes(argument, total)
    texts, labels = artifacts.texts_and_labels(data, "train")
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:IMPORTANCE_ROWS])
    ids = BatchTokenizer(teacher, manifest["max_length"]).ids([texts[i] for i in rows])
    events.message(f"measuring what layers and neurons matter, on {len(rows):,} rows")
    matters = importance(model, ids, labels[rows])
    layers = sorted(torch.topk(matters.layers, depth).indices.tolist())
    width = kept_width(model.config.intermediate_size, percent)
    neurons = [torch.topk(matters.neurons[layer], width).indices.sort().values for layer in layers]
    student = with_widths(with_layers(model, layers), neurons)
    structure = f"pruned-{argument}" if argument else "pruned"
    config = LearningConfig(epochs=EPOCHS, seed=seed)
    result = learn(student, layers, teacher, data, structure, config)
    names = ", ".join(str(layer + 1) for layer in layers)
    method = (
        f"pruned to layers {names} of {total} and {width} of {model.config.intermediate_size} feed-forward neurons "
        "by gradient importance, then trained on the fine-tuned model's answers"
    )
    parameters = {**asdict(config), "layers": layers, "feed_forward_width": width}
    write_student(student, teacher, output, structure, method, result, parameters)


def sizes(argument: str, total: int) -> tuple[int, int]:
    """Return how many layers stay and what percentage of neurons, from ``P``, ``LxP`` or nothing.

    Raises:
        CandidateLost: the teacher has fewer layers.
    """
    first, _, second = argument.rpartition("x")
    depth = int(first) if first else total
    if depth > total:
        raise CandidateLost(f"{depth} layers cannot stay of {total}")
    return depth, int(second or DEFAULT_PERCENT)


def kept_width(width: int, percent: int) -> int:
    """Return ``percent`` of ``width``, as a multiple of 16 where there is one below ``width``."""
    wanted = max(1, round(width * percent / 100))
    whole = round(wanted / MULTIPLE) * MULTIPLE
    return whole if 0 < whole < width else wanted
