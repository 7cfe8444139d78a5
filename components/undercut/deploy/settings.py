"""What a deployment is given, checked before anything is registered."""

import re
from dataclasses import dataclass

from undercut.errors import ConfigurationError

TARGETS = ("local",)


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """Settings of a deployment.

    Attributes:
        model_name: name in the registry and in the endpoints' paths.
        target: where it is deployed; ``local`` moves the registry's alias after a test on this machine.
        margin: the challenger is not inferior if the difference's lower end is above minus this (accuracy).
        minimum_saving: the challenger is cheaper if it costs at least this share less, measured side by side.
        seed: of the bootstrap.
    """

    model_name: str
    target: str = "local"
    margin: float = 0.01
    minimum_saving: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.model_name):
            allowed = "letters, digits, and . _ - (at most 100 characters)"
            raise ConfigurationError("model_name", self.model_name, allowed, "It becomes part of the endpoints' paths")
        if self.target not in TARGETS:
            raise ConfigurationError("target", self.target, " or ".join(TARGETS))
        for name in ("margin", "minimum_saving"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigurationError(name, value, "a share from 0 to below 1, for example 0.01")
