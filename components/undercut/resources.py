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
QUANTITIES = {
    "cpu": re.compile(r"(\d+(\.\d+)?)m?"),
    "memory": re.compile(r"(\d+(\.\d+)?)(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"),
}
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_QUALIFIED = re.compile(rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_SUBDOMAIN}")
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
        for name, pattern in QUANTITIES.items():
            value = getattr(self, name)
            match = pattern.fullmatch(value)
            if match is None or float(match[1]) == 0:
                allowed = {
                    "cpu": "cores above zero such as 500m, 2 or 1.5",
                    "memory": "bytes such as 512Mi or 8Gi (not 8GB)",
                }
                raise _refused(name, value, f"a Kubernetes quantity, {allowed[name]}")
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
        kind = self.accelerator
        if kind and ("/" not in kind or kind.startswith("requests.") or not _QUALIFIED.fullmatch(kind)):
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
    if kind is list and isinstance(value, list):
        return [_whole_seconds(item) for item in value]
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {int: "a whole number", str: "a text", dict: "a mapping", list: "a list"}
    raise _refused(name, value, words[kind])


def _check_toleration(toleration: object) -> None:
    """Refuse what would be refused long after: Trainer's API takes any toleration, and then no pod is ever made."""
    if not isinstance(toleration, Mapping) or not set(toleration) <= set(_TOLERATION):
        raise _refused("tolerations", toleration, f"mappings of {', '.join(_TOLERATION)}")
    given = dict(toleration)
    operator, effect = given.get("operator", "Equal"), given.get("effect", "")
    key, value = given.get("key", ""), given.get("value", "")
    if operator not in ("Equal", "Exists") or effect not in _EFFECTS:
        raise _refused("tolerations", given, "operator Equal or Exists; effect one of NoSchedule, NoExecute")
    if operator == "Equal" and not key:
        raise _refused("tolerations", given, "a key, or operator Exists")
    if operator == "Exists" and value:
        raise _refused("tolerations", given, "no value where the operator is Exists")
    texts = isinstance(key, str) and isinstance(value, str)
    if not texts or (key and not _QUALIFIED.fullmatch(key)) or not _LABEL_VALUE.fullmatch(value):
        raise _refused("tolerations", given, "a taint's key and its value, as texts")
    if "tolerationSeconds" in given and (type(given["tolerationSeconds"]) is not int or effect != "NoExecute"):
        raise _refused("tolerations", given, "tolerationSeconds as a whole number, with effect NoExecute")


def _whole_seconds(toleration: Any) -> Any:
    """Return a toleration whose seconds are a whole number again, if they are one."""
    if not isinstance(toleration, Mapping):
        return toleration
    seconds = toleration.get("tolerationSeconds")
    if isinstance(seconds, float) and seconds.is_integer():
        return {**toleration, "tolerationSeconds": int(seconds)}
    return toleration


def _refused(name: str, got: object, allowed: str, remedy: str = "") -> ConfigurationError:
    return ConfigurationError(f"resources.{name}", got, allowed, remedy)
