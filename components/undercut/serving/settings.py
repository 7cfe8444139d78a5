"""How a server is set up: what it serves, where it listens, and what it counts."""

from dataclasses import dataclass
from pathlib import Path

from undercut.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of a server.

    Args:
        model: a sealed model folder, or a symbolic link to one; a load reads it anew.
        name: the model's name in the endpoints' paths.
        port: 0 takes a free one (the line printed names it).
        host: ``0.0.0.0`` in a container.
        threads: threads of one prediction.
        digest: the only digest accepted at the start; a later load must then name the one it expects.
        watch_seconds: swap when the folder's digest changes, looked at this often; 0 never looks.
        usd_per_hour: price of the device, for the metric of the price so far; 0 leaves the metric out.
        tokenizer: folder with the ``tokenizer.json`` that counts tokens, where the model's own does not.
        grace_seconds: how long requests in flight may take after SIGTERM.
    """

    model: Path
    name: str = "model"
    port: int = 8080
    host: str = "127.0.0.1"
    threads: int = 1
    digest: str | None = None
    watch_seconds: float = 0.0
    usd_per_hour: float = 0.0
    tokenizer: Path | None = None
    grace_seconds: int = 20

    def __post_init__(self) -> None:
        for field in ("watch_seconds", "usd_per_hour"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ConfigurationError(field, getattr(self, field), "zero (off) or more")
        if self.threads < 1:
            raise ConfigurationError("threads", self.threads, "a whole number from 1")
        if self.grace_seconds < 0:
            raise ConfigurationError("grace_seconds", self.grace_seconds, "zero or more")
        if self.watch_seconds and self.digest:
            remedy = "Leave one of them out"
            raise ConfigurationError("watch_seconds", self.watch_seconds, "zero where digest allows one model", remedy)
