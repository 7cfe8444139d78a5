"""What is decided when a pipeline is compiled for Kubeflow, and cannot be a parameter of a run."""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from undercut.errors import ConfigurationError

_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_CLAIM = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?")
# KFP names the claim's volume after it, and a volume's name has no dots.
_VOLUME = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?")
_SIZE = re.compile(r"[1-9]\d*(Mi|Gi)")


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Compile-time options.

    Attributes:
        image: image of every step; empty for the one that the components name.
        cache_pvc: a ReadWriteMany claim that training steps keep downloads on; empty for none.
        spot: train in TrainJobs, which may lose their node at any moment and go on from a checkpoint.
        team: label of every pod, for attributing cost.
        recipe: label of every pod, for attributing cost.
        retries: how often a step whose pod was lost is started again.
        longest_hours: the longest that a step may take, its retries included; later there is no retry.
        shared_memory: size limit of /dev/shm in training steps.
        image_pull_secret: a Secret that the image is pulled with; empty for none.
    """

    image: str = ""
    cache_pvc: str = ""
    spot: bool = False
    team: str = ""
    recipe: str = ""
    retries: int = 2
    longest_hours: int = 48
    shared_memory: str = "2Gi"
    image_pull_secret: str = ""

    def __post_init__(self) -> None:
        for name in ("team", "recipe"):
            if not _LABEL.fullmatch(getattr(self, name)):
                allowed = "up to 63 letters, digits, and - _ . inside (a label's value)"
                raise ConfigurationError(name, getattr(self, name), allowed)
        for name, pattern in (("cache_pvc", _VOLUME), ("image_pull_secret", _CLAIM)):
            if not pattern.fullmatch(getattr(self, name)):
                without = ", without dots" if pattern is _VOLUME else ""
                allowed = f"the name of a Kubernetes object{without}, or empty"
                raise ConfigurationError(name, getattr(self, name), allowed)
        if not _SIZE.fullmatch(self.shared_memory):
            raise ConfigurationError("shared_memory", self.shared_memory, "a size such as 512Mi or 2Gi")
        for name, least, most in (("retries", 0, 10), ("longest_hours", 1, 720)):
            if not least <= getattr(self, name) <= most:
                raise ConfigurationError(name, getattr(self, name), f"from {least} to {most}")


# None: the pipeline is traced to run on this machine, where pods mean nothing.
_current: ContextVar[CompileOptions | None] = ContextVar("compile_options", default=CompileOptions())  # noqa: B039


@contextlib.contextmanager
def compiling(options: CompileOptions | None) -> Iterator[None]:
    """Trace pipelines with these options within the block; None for a run on this machine."""
    token = _current.set(options)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> CompileOptions | None:
    """Return the options that hold now."""
    return _current.get()
