"""Which layers of an encoder are trained when: lower ones frozen, the others thawed from the top."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from undercut.errors import ConfigurationError


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Freeze the embeddings and the lowest ``layers`` layers for good; zero freezes nothing.

    Raises:
        ConfigurationError: the model has no more layers than that.
    """
    total = len(encoder_layers(model))
    if layers >= total:
        raise ConfigurationError("frozen_layers", layers, f"from 0 to {total - 1}", f"The base has {total} layers")
    if layers:
        _set([embeddings(model), *encoder_layers(model)[:layers]], False)


def thaw(model: PreTrainedModel, frozen: int, interval: int, gradual: bool, head_first: bool) -> None:
    """Set what is trained in an interval of the training; the output layer always is.

    With ``head_first`` the encoder rests in interval 0, so that a fresh output layer does not spoil it.
    Gradual unfreezing gives one more layer to the training at each interval, the topmost first, the
    embeddings last (Howard & Ruder 2018).

    Args:
        model: an encoder with a masked-LM head.
        frozen: lowest layers that stay as they are, as in :func:`freeze`.
        interval: from 0.
        gradual: thaw layer by layer; otherwise all at once.
        head_first: train the output layer alone first.
    """
    layers = list(encoder_layers(model))[frozen:]
    order = [*reversed(layers), *([] if frozen else [embeddings(model)])]
    resting = head_first and interval == 0
    count = 0 if resting else interval + (not head_first) if gradual else len(order)
    _set(order[count:], False)
    _set(order[:count], True)


def encoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return the encoder's layers, lowest first."""
    layers = model.base_model.get_submodule("encoder.layer")
    assert isinstance(layers, torch.nn.ModuleList), type(layers)
    return layers


def embeddings(model: PreTrainedModel) -> torch.nn.Module:
    """Return the embeddings of tokens and positions."""
    return model.base_model.get_submodule("embeddings")


def _set(modules: Iterable[torch.nn.Module], trained: bool) -> None:
    for module in modules:
        module.requires_grad_(trained)
