"""What is known of a pretrained model before there is one, and the folder of one that was left out."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from undercut import artifacts, events
from undercut.costs import LIMITS
from undercut.pretrain.settings import PretrainConfig


def fixed_settings(config: PretrainConfig) -> dict[str, Any]:
    """Return the settings that decide what the model becomes: all but the limits."""
    return {k: v for k, v in asdict(config).items() if k not in LIMITS}


def described(config: PretrainConfig) -> dict[str, Any]:
    """Return what is known of the model before there is one."""
    return {
        "task": "causal-language-modelling" if config.causal else "masked-language-modelling",
        "labels": [],
        "format": "torch",
        "structure": "pretrained",
        "precision": "as-is",
        "base_model": None,
        "parameters": fixed_settings(config),
        "max_length": config.sequence_length,
    }


def left_out(output: Path, config: PretrainConfig) -> None:
    """Seal a model folder that is marked lost, and read nothing."""
    events.message("pretraining is left out: no epochs")
    output.mkdir(parents=True, exist_ok=True)
    lost = {"method": "", "metrics": {}, "lost": "pretraining was left out"}
    artifacts.seal(output, artifacts.MODEL, {**described(config), **lost})
