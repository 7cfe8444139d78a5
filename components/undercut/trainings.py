"""The trainings that may run in processes of their own, by name: what to call, with what.

A table, and not import paths in a file: whoever can write a worker's file chooses among these and no other code.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undercut.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Training:
    """A stage's function, and the class of its argument ``config``, if it has one: ``module:name``."""

    function: str
    config: str = ""


TRAININGS = {
    "finetune": Training(
        function="undercut.finetune.classifier:finetune", config="undercut.finetune.settings:FinetuneConfig"
    ),
    "pretrain": Training(
        function="undercut.pretrain.language_model:pretrain", config="undercut.pretrain.settings:PretrainConfig"
    ),
    "transfer": Training(
        function="undercut.transfer.domain_adaptation:transfer", config="undercut.transfer.settings:TransferConfig"
    ),
    "compress": Training(function="undercut.compress.structures:compress"),
}


def train(name: str, folders: Mapping[str, Path | None], arguments: Mapping[str, Any]) -> None:
    """Run a training in this process.

    Args:
        name: one of ``TRAININGS``.
        folders: the function's arguments that are input and output folders.
        arguments: the others; ``config`` is the Config, or a mapping of its fields.

    Raises:
        ConfigurationError: there is no training of that name, or the training refuses its settings.
    """
    if name not in TRAININGS:
        raise ConfigurationError("training", name, f"one of {', '.join(TRAININGS)}")
    training = TRAININGS[name]
    config = arguments.get("config")
    if isinstance(config, Mapping):
        arguments = {**arguments, "config": _load(training.config)(**config)}
    _load(training.function)(**folders, **arguments)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
