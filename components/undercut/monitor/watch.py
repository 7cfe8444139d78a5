"""Is there anything to train for? What is new since the champion, what has drifted, and what follows.

The cheap answer comes first: a dataset that the champion, or a later version that did not take its place,
was made from is done with, and no model is loaded.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undercut import artifacts, companions, events, registry
from undercut.errors import ConfigurationError
from undercut.monitor.comparison import compare, in_words
from undercut.monitor.settings import MonitorConfig
from undercut.monitor.start import Candidates, Start, first_training, next_training
from undercut.reference import read_reference

if TYPE_CHECKING:
    from mlflow import MlflowClient

RETRY = "To train all the same, set monitor_settings.always."


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to train, why, and what was seen: rows, labels, tests; nothing where nobody had to look."""

    changed: bool
    reason: str
    seen: Mapping[str, Any] = field(default_factory=dict)


def monitor(data: Path, output: Path, config: MonitorConfig, candidates: Candidates) -> Start | None:
    """Compare a dataset with what the champion was made from, and seal what was found.

    Args:
        data: the dataset, ingested anew.
        output: receives ``monitoring.json``.
        config: settings.
        candidates: what a first training makes: structure and precision of each.

    Returns:
        Where a training starts from and what it makes; None where there is nothing to train for.

    Raises:
        ConfigurationError: the dataset has no labels, or the registry's content is not what was registered.
    """
    events.parameters(asdict(config))
    card = artifacts.load(data, artifacts.DATASET)
    if not card["labels"]:
        raise ConfigurationError("data", "a dataset without labels", "labelled rows", "Give ingest a source")
    client = registry.connect()
    champion = registry.by_alias(client, config.model_name, registry.CHAMPION)
    decision = _decide(client, champion, data, card, config)
    start = _start(client, champion, config, candidates, card) if decision.changed else None
    content = {
        "model_name": config.model_name,
        "dataset": card["digest"],
        "champion": champion and {"version": champion.number, "model": champion.digest, "tags": dict(champion.tags)},
        "changed": decision.changed,
        "reason": decision.reason,
        "minimum_new_rows": config.minimum_new_rows,
        "significance": config.significance,
        "correction": "Holm (1979)",
        "tests": [],
        **decision.seen,
        "start": start and asdict(start),
    }
    output.mkdir(parents=True, exist_ok=True)
    artifacts.seal(output, artifacts.MONITORING, content)
    for test in content["tests"]:
        events.metric(f"p_value.{test['test'].replace(' ', '_')}", test["p_value"])
    events.message(f"{decision.reason} {f'Training: {start.reason}.' if start else 'Nothing to do.'}")
    return start


def _start(
    client: "MlflowClient",
    champion: registry.Version | None,
    config: MonitorConfig,
    candidates: Candidates,
    card: artifacts.Manifest,
) -> Start:
    if champion is None:
        return first_training(config, candidates)
    return next_training(client, champion, config, candidates, card)


def _decide(
    client: "MlflowClient",
    champion: registry.Version | None,
    data: Path,
    card: artifacts.Manifest,
    config: MonitorConfig,
) -> Decision:
    if config.always:
        return Decision(changed=True, reason="A training was asked for (always).")
    if champion and champion.tags.get("dataset") == card["digest"]:
        reason = f"Nothing changed: version {champion.number}, the champion, was made from this very dataset."
        return Decision(changed=False, reason=reason)
    if tried := _tried(client, config.model_name, card["digest"]):
        return Decision(changed=False, reason=f"Nothing changed since this very dataset was tried. {tried} {RETRY}")
    if champion is None:
        return Decision(changed=True, reason=f"There is no champion '{config.model_name}' yet.")
    return _compared(client, champion, data, config)


def _tried(client: "MlflowClient", name: str, dataset: str) -> str:
    """Say what came of an earlier training on the dataset; empty if there was none."""
    if (missed := registry.missed(client, name, dataset)) is not None:
        return missed
    version = registry.by_dataset(client, name, dataset)
    if version is None or "promotion" not in version.tags:  # a deployment that failed on the way is made again
        return ""
    return f"Version {version.number} came of it. {version.tags['promotion']}"


def _compared(client: "MlflowClient", champion: registry.Version, data: Path, config: MonitorConfig) -> Decision:
    kept = companions.reference(client, champion)
    if kept is None:
        reason = f"The dataset is another than version {champion.number}'s, which was registered without a reference."
        return Decision(changed=True, reason=reason)
    events.message(f"the dataset is another than version {champion.number}'s: looking for what is new")
    seen = compare(data, read_reference(kept), registry.fetch(client, champion), config)
    enough = seen["rows"]["new"] >= config.minimum_new_rows
    changed = enough or bool(seen["labels"]["new"]) or any(test["alarm"] for test in seen["tests"])
    return Decision(changed=changed, reason=in_words(seen, config), seen=seen)
