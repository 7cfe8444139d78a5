"""Where a training starts from, and what it makes: the champion's teacher and its own form, if it has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from undercut import artifacts, companions, registry
from undercut.candidates import parse_candidates
from undercut.monitor.settings import MonitorConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

Candidates = Sequence[Mapping[str, str]]
SCRATCH = "scratch"  # made from a language model that only a whole lifecycle pretrains


@dataclass(frozen=True, kw_only=True)
class Start:
    """The base's URI, the candidates to make (structure and precision), and why these, in words."""

    base_model: str
    candidates: Candidates
    reason: str


def first_training(config: MonitorConfig, candidates: Candidates) -> Start:
    """Return the start of a training without a champion."""
    return Start(base_model=config.base_model, candidates=candidates, reason="a first training, from the base model")


def next_training(
    client: "MlflowClient",
    champion: registry.Version,
    config: MonitorConfig,
    candidates: Candidates,
    card: artifacts.Manifest,
) -> Start:
    """Return the start of a training that goes on from the champion, as far as what was kept of it allows.

    Args:
        client: of the registry.
        champion: the version to go on from.
        config: settings.
        candidates: what is made where the champion's own form is not to be, or cannot be, made alone.
        card: the new dataset's manifest.
    """
    base, why = _base(client, champion, config, card)
    (own,) = parse_candidates([champion.tags["candidate"]])
    if config.all_candidates:
        return Start(base_model=base, candidates=candidates, reason=f"{why}; all candidates, as asked for")
    if own.structure == SCRATCH:
        return Start(
            base_model=base, candidates=candidates, reason=f"{why}; all candidates: {own.name} has no base here"
        )
    form = {"structure": own.structure, "precision": own.precision}
    return Start(base_model=base, candidates=[form], reason=f"{why}; the champion's own form, {own.name}")


def _base(
    client: "MlflowClient", champion: registry.Version, config: MonitorConfig, card: artifacts.Manifest
) -> tuple[str, str]:
    number = champion.number
    folder = companions.teacher(client, champion)
    if folder is None:
        return config.base_model, f"version {number} was registered without its fine-tuned model: from the base model"
    teacher = artifacts.load(folder, artifacts.MODEL)
    if teacher["format"] != "torch":
        return config.base_model, f"version {number} comes from an {teacher['format']} on its base: from the base model"
    if teacher["task"] != card["task"]:
        return config.base_model, f"version {number} is for {teacher['task']}: from the base model"
    uri = f"{companions.SCHEME}{config.model_name}@{number}"
    return uri, f"goes on from the fine-tuned model of version {number}"
