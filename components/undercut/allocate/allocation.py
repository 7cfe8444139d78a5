"""What each step's pod asks for, out of what the run asks for."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from undercut.resources import parse_resources


class Allocation(NamedTuple):
    """Values that KFP puts into pods; counts are texts, as Kubernetes quantities are."""

    accelerator: str
    accelerator_count: str
    cpu: str
    memory: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    secret: str


def allocation(resources: Mapping[str, Any]) -> Allocation:
    """Return what step pods ask for.

    Raises:
        ConfigurationError: an entry is wrong.
    """
    asked = parse_resources(resources)
    elsewhere = asked.nodes > 1 or os.environ.get("UNDERCUT_SPOT") == "1"
    return Allocation(
        accelerator="" if elsewhere else asked.accelerator,
        accelerator_count="0" if elsewhere else str(asked.accelerator_count),
        cpu=asked.cpu,
        memory=asked.memory,
        node_selector={} if elsewhere else dict(asked.node_selector),
        tolerations=[] if elsewhere else [dict(toleration) for toleration in asked.tolerations],
        secret=asked.secret,
    )
