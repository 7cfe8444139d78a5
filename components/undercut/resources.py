"""What a run asks of the cluster for its steps: the pipelines' ``resources``, checked before a pod is made.

Each entry is one that Kubernetes knows: quantities such as ``500m`` or ``8Gi``, a device plugin's resource
(``nvidia.com/gpu``, ``nvidia.com/mig-1g.10gb``, ``amd.com/gpu``), node labels, tolerations, a Secret's name
(https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from undercut.errors import ConfigurationError

DEFAULTS: dict[str, Any] = {
    "accelerator": "",
    "accelerator_count": 0,
    "cpu": "2",
    "memory": "8Gi",
    "node_selector": {},
    "tolerations": [],
    "secret": "undercut",
    "nodes": 1,
    "processes": 0,
}
QUANTITY = re.compile(r"(\d+(\.\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each training step, or each node of a distributed training, gets.

    Attributes:
        accelerator: the device plugin's resource name; empty for none.
        accelerator_count: devices a node.
        cpu: cores of every step, a Kubernetes quantity.
        memory: memory of every step, a Kubernetes quantity.
        node_selector: labels of the nodes that training steps go to.
        tolerations: taints of those nodes that training steps tolerate.
        secret: name of a Secret whose entries become environment variables; it need not exist.
        nodes: pods that train together; more than one makes a TrainJob.
        processes: processes a node; 0 for one a device, or one.
    """

    accelerator: str = ""
    accelerator_count: int = 0
    cpu: str = "2"
    memory: str = "8Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = field(default_factory=list)
    secret: str = "undercut"
    nodes: int = 1
    processes: int = 0

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            value = getattr(self, name)
            match = QUANTITY.fullmatch(value)
            if match is None or float(match[1]) == 0:
                raise _refused(name, value, "a Kubernetes quantity above zero such as 500m, 2 or 8Gi (not 8GB)")
        self._check_accelerator()
        for name, least in (("nodes", 1), ("processes", 0)):
            if not least <= getattr(self, name) <= 1024:
                raise _refused(name, getattr(self, name), f"from {least} to 1024")
        if not _DNS_NAME.fullmatch(self.secret):
            raise _refused("secret", self.secret, "a Secret's name (it need not exist)")
        for key, value in self.node_selector.items():
            if not _QUALIFIED.fullmatch(key) or not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
                raise _refused(f"node_selector.{key}", value, "a label's key and its value, a text")
        for toleration in self.tolerations:
            _check_toleration(toleration)

    def _check_accelerator(self) -> None:
        if self.accelerator and ("/" not in self.accelerator or not _QUALIFIED.fullmatch(self.accelerator)):
            raise _refused("accelerator", self.accelerator, "empty, or a resource such as nvidia.com/gpu")
        if not 0 <= self.accelerator_count <= 64:
            raise _refused("accelerator_count", self.accelerator_count, "from 0 to 64")
        if bool(self.accelerator) != bool(self.accelerator_count):
            allowed = "both, or neither: a resource such as nvidia.com/gpu and how many of it"
            raise _refused("accelerator", f"{self.accelerator} x {self.accelerator_count}", allowed)

    @property
    def processes_per_node(self) -> int:
        """Return how many processes train on each node: as asked, or one a device, or one."""
        return self.processes or self.accelerator_count or 1


def parse_resources(entries: Mapping[str, Any]) -> Resources:
    """Return the resources that a mapping names; what it leaves out is :data:`DEFAULTS`'.

    Raises:
        ConfigurationError: an unknown entry, or one that Kubernetes would refuse.
    """
    known = {f.name for f in fields(Resources)}
    values: dict[str, Any] = {}
    for name, value in entries.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise _refused(name, value, f"one of {', '.join(DEFAULTS)}", f"Did you mean {close[0]}" if close else "")
        values[name] = _typed(name, value)
    return Resources(**values)


def _typed(name: str, value: Any) -> Any:
    """Return an entry in its type: a pipeline hands whole numbers on as floats, a person writes ``cpu: 2``."""
    kind = type(DEFAULTS[name])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if name == "cpu" and number:
        return f"{value:g}"
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {int: "a whole number", str: "a text", dict: "a mapping", list: "a list"}
    raise _refused(name, value, words[kind])


def _check_toleration(toleration: object) -> None:
    if not isinstance(toleration, Mapping) or not set(toleration) <= set(_TOLERATION):
        raise _refused("tolerations", toleration, f"mappings of {', '.join(_TOLERATION)}")
    operator, effect = toleration.get("operator", "Equal"), toleration.get("effect", "")
    if operator not in ("Equal", "Exists") or effect not in _EFFECTS:
        raise _refused("tolerations", dict(toleration), "operator Equal or Exists; effect one of NoSchedule, NoExecute")
    if operator == "Equal" and not toleration.get("key"):
        raise _refused("tolerations", dict(toleration), "a key, or operator Exists")


def _refused(name: str, got: object, allowed: str, remedy: str = "") -> ConfigurationError:
    return ConfigurationError(f"resources.{name}", got, allowed, remedy)
