"""Smaller encoders out of a fine-tuned one: which layers stay, and how wide they are.

What comes out is a configuration and weights that ``from_pretrained`` loads again like any other; only where
heads were cut it takes :func:`load_model`, which everything that needs a classifier in PyTorch calls.
"""

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from undercut import artifacts, attention_heads
from undercut.errors import CandidateLost
from undercut.predictors import TOKENIZER_FILES


def load_classifier(folder: Path) -> PreTrainedModel:
    """Return the classifier in ``folder`` in float32, with plain attention and no dropout on its weights.

    Raises:
        CandidateLost: the folder holds a lost candidate, or an adapter that could not be merged into its base.
    """
    manifest = artifacts.load(folder, artifacts.MODEL)
    if manifest["lost"]:
        raise CandidateLost(manifest["lost"])
    if manifest["format"] == "adapter":
        raise CandidateLost("its teacher is an adapter beside its base, not one model")
    return load_model(folder, manifest, "eager")


def load_model(folder: Path, manifest: artifacts.Manifest, attention: str | None = None) -> PreTrainedModel:
    """Return a classifier in PyTorch format, in float32 and in evaluation mode.

    Args:
        folder: the model folder.
        manifest: its ``model.json``, whose ``parameters.heads`` says where heads were cut.
        attention: how attention is computed, ``eager`` or ``sdpa``; None for the library's choice.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    # Students of this model are trained without dropout on attention's weights; causal models have no such setting.
    if hasattr(config, "attention_probs_dropout_prob"):
        config.attention_probs_dropout_prob = 0.0
    if heads := manifest["parameters"].get("heads"):
        return built(config, load_file(folder / "model.safetensors"), heads, attention).eval()  # type: ignore[no-untyped-call,no-any-return]
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        attn_implementation=attention,
    )
    assert isinstance(model, PreTrainedModel), type(model)
    return model


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files of one model folder to another."""
    artifacts.copy_files(source, target, [name for name in TOKENIZER_FILES if (source / name).is_file()])


def layer_list(model: PreTrainedModel) -> tuple[str, torch.nn.ModuleList]:
    """Return the encoder's layers and their name, such as ``bert.encoder.layer``.

    Raises:
        CandidateLost: the architecture has no plain list of layers.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return name, module
    raise CandidateLost(f"{type(model).__name__} has no list of {count} layers to choose from")


def even_layers(total: int, kept: int) -> list[int]:
    """Return ``kept`` layers of ``total``, spaced evenly, the last among them (Sun et al. 2019)."""
    return [round((i + 1) * total / kept) - 1 for i in range(kept)]


def with_layers(model: PreTrainedModel, picked: Sequence[int]) -> PreTrainedModel:
    """Return a copy of ``model`` that has only the layers ``picked``, in this order."""
    prefix, _ = layer_list(model)
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(picked)
    places = {old: new for new, old in enumerate(picked)}
    weights = {}
    for name, tensor in model.state_dict().items():
        found = re.match(rf"{re.escape(prefix)}\.(\d+)\.", name)
        if found is None:
            weights[name] = tensor
        elif int(found[1]) in places:
            weights[f"{prefix}.{places[int(found[1])]}.{name[found.end() :]}"] = tensor
    heads = attention_heads.head_counts(model)
    return built(config, weights, [heads[layer] for layer in picked] if heads else None)


def feed_forwards(model: PreTrainedModel) -> list[tuple[torch.nn.Linear, torch.nn.Linear]]:
    """Return each layer's two feed-forward products: hidden size to width, and width back.

    Raises:
        CandidateLost: the layers have no such pair (gated feed-forwards have three products).
    """
    width, size = model.config.intermediate_size, model.config.hidden_size
    found = []
    for layer in layer_list(model)[1]:
        products = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        up = [m for m in products if (m.in_features, m.out_features) == (size, width)]
        down = [m for m in products if (m.in_features, m.out_features) == (width, size)]
        if len(up) != 1 or len(down) != 1:
            raise CandidateLost(f"the feed-forward part of {type(model).__name__} is not two products: cannot slice it")
        found.append((up[0], down[0]))
    return found


def with_widths(model: PreTrainedModel, kept: Sequence[torch.Tensor]) -> PreTrainedModel:
    """Return a copy of ``model`` with only some neurons of each feed-forward part.

    Args:
        model: a classifier.
        kept: for each layer the indices of its neurons that stay, as many in each layer: the stock
            classes have one width for all.
    """
    config = copy.deepcopy(model.config)
    config.intermediate_size = len(kept[0])
    weights = dict(model.state_dict())
    names = {module: name for name, module in model.named_modules()}
    for (up, down), neurons in zip(feed_forwards(model), kept, strict=True):
        weights[f"{names[up]}.weight"] = up.weight.detach()[neurons]
        weights[f"{names[down]}.weight"] = down.weight.detach()[:, neurons]
        if up.bias is not None:
            weights[f"{names[up]}.bias"] = up.bias.detach()[neurons]
    return built(config, weights, attention_heads.head_counts(model))


def with_heads(model: PreTrainedModel, kept: Sequence[torch.Tensor]) -> PreTrainedModel:
    """Return a copy of ``model`` with only some heads of each layer, at least one.

    Args:
        model: a classifier.
        kept: for each layer the indices of its heads that stay, in rising order.

    Raises:
        CandidateLost: the architecture's attention is of another form.
    """
    weights = attention_heads.sliced(model, kept)
    return built(copy.deepcopy(model.config), weights, [len(heads) for heads in kept])


def pooled(hidden_states: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return each layer's first vector and mean vector, shape (texts, layers, 2, hidden size).

    Args:
        hidden_states: outputs of layers, each of shape (texts, longest, hidden size).
        mask: which tokens are real, shape (texts, longest).
    """
    stacked = torch.stack(list(hidden_states), dim=1).float()
    share = mask / mask.sum(dim=1, keepdim=True)
    mean = torch.einsum("nlth,nt->nlh", stacked, share.float())
    return torch.stack([stacked[:, :, 0], mean], dim=2)


def built(
    config: object,
    weights: dict[str, torch.Tensor],
    heads: Sequence[int] | None = None,
    attention: str | None = "eager",
) -> PreTrainedModel:
    """Return a classifier of this configuration, with so many heads a layer, that has exactly these weights."""
    model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=attention, dtype=torch.float32
    )
    assert isinstance(model, PreTrainedModel), type(model)
    if heads is not None:
        attention_heads.narrow(model, heads)
    model.load_state_dict(weights)
    return model
