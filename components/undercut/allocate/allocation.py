"""What each step's pod asks for, out of what the run asks for."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from undercut.resources import parse_resources


class Allocation(NamedTuple):
    """Values that KFP puts into pods; counts are texts, as Kubernetes quantities are.

    Those called ``launcher_…`` are for steps that launch a training: they hold nothing where a TrainJob holds it.
    """

    cpu: str
    memory: str
    secret: str
    accelerator: str
    accelerator_count: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    launcher_accelerator: str
    launcher_accelerator_count: str
    launcher_node_selector: dict[str, str]
    launcher_tolerations: list[dict[str, Any]]


def allocation(resources: Mapping[str, Any]) -> Allocation:
    """Return what step pods ask for.

    Raises:
        ConfigurationError: an entry is wrong.
    """
    asked = parse_resources(resources)
    elsewhere = asked.nodes > 1 or os.environ.get("UNDERCUT_SPOT") == "1"
    selector = dict(asked.node_selector)
    tolerations = [dict(toleration) for toleration in asked.tolerations]
    return Allocation(
        cpu=asked.cpu,
        memory=asked.memory,
        secret=asked.secret,
        accelerator=asked.accelerator,
        accelerator_count=str(asked.accelerator_count),
        node_selector=selector,
        tolerations=tolerations,
        launcher_accelerator="" if elsewhere else asked.accelerator,
        launcher_accelerator_count="0" if elsewhere else str(asked.accelerator_count),
        launcher_node_selector={} if elsewhere else selector,
        launcher_tolerations=[] if elsewhere else tolerations,
    )
