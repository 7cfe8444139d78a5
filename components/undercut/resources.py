"""What a step may reserve: the mapping ``resources`` of a pipeline, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from undercut.errors import ConfigurationError

COUNTS = {"accelerator_count": 0, "nodes": 1, "processes": 0, "deadline_seconds": 1}
TEXTS = ("accelerator", "cpu", "memory", "secret")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one node of a training gets, and how many nodes there are.

    ``accelerator`` is a resource's name (``nvidia.com/gpu``, ``nvidia.com/mig-1g.10gb``), ``cpu`` and
    ``memory`` quantities of Kubernetes; ``processes`` a node, 0 for one an accelerator; a TrainJob ends after
    ``deadline_seconds``; ``secret`` names the Secret of the user's own variables.
    """

    accelerator: str = ""
    accelerator_count: int = 0
    cpu: str = "2"
    memory: str = "8Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    secret: str = "undercut"
    nodes: int = 1
    processes: int = 0
    deadline_seconds: int = 86_400

    @property
    def processes_per_node(self) -> int:
        """Return how many processes train on a node."""
        return self.processes or max(1, self.accelerator_count)


def parse_resources(content: Mapping[str, Any]) -> Resources:
    """Check a mapping as a pipeline hands it on, whole numbers as floats.

    Raises:
        ConfigurationError: names the entry, the value and what is allowed.
    """
    known = list(Resources.__dataclass_fields__)
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise ConfigurationError(f"resources.{name}", value, f"one of {', '.join(known)}")
        values[name] = _checked(name, value)
    found = Resources(**values)
    if found.accelerator_count and not found.accelerator:
        raise ConfigurationError("resources.accelerator", "", "a resource's name, such as nvidia.com/gpu")
    return found


def _checked(name: str, value: object) -> object:
    if name in COUNTS:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < COUNTS[name]:
            raise ConfigurationError(f"resources.{name}", value, f"a whole number from {COUNTS[name]}")
        return int(value)
    if name in TEXTS:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise ConfigurationError(f"resources.{name}", value, "a text")
        return f"{value:g}" if isinstance(value, float) else str(value)
    if name == "node_selector":
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise ConfigurationError("resources.node_selector", value, "a mapping of labels to texts")
        return dict(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise ConfigurationError("resources.tolerations", value, "a list of tolerations, each a mapping")
    return tuple(_whole(dict(item)) for item in value)


def _whole(toleration: dict[str, Any]) -> dict[str, Any]:
    """Return a toleration with its seconds as a whole number again."""
    return {k: int(v) if isinstance(v, float) else v for k, v in toleration.items()}
