"""The quality bar: what a model must reach to be shipped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from undercut.errors import ConfigurationError

METRICS = ("accuracy", "macro_f1", "micro_f1")
# Requests that a server answers in one batch, for each kind of traffic.
TRAFFIC = {"online": 1, "batch": 32}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The lower end of the metric's interval must reach ``minimum``.

    Attributes:
        metric: ``accuracy``, ``macro_f1`` or ``micro_f1``. Of one label a row the last is the first; where a row may
            have several, accuracy is the share of rows with all of them right.
        minimum: what the interval's lower end must reach, between 0 and 1.
        maximum_drop: how far the point estimate may lie under the best candidate's; 0.01 is one point.
        maximum_latency_ms: median latency of one request on one thread; 0 for no limit.
        confidence: of the interval, for example 0.95.
    """

    metric: str = "accuracy"
    minimum: float = 0.8
    maximum_drop: float = 0.02
    maximum_latency_ms: float = 0.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigurationError("bar.metric", self.metric, f"one of {', '.join(METRICS)}")
        _within("bar.minimum", self.minimum, 0, 1, "No model reaches 1 on held-out rows for certain")
        _within("bar.maximum_drop", self.maximum_drop, -1e-9, 1 + 1e-9)
        _within("bar.confidence", self.confidence, 0.5, 1, "0.95 is usual")
        _within("bar.maximum_latency_ms", self.maximum_latency_ms, -1e-9, float("inf"), "0 sets no limit")

    def as_dict(self) -> dict[str, Any]:
        """Return the bar as it stands in a recipe."""
        return asdict(self)


def _within(field: str, value: object, low: float, high: float, remedy: str = "") -> None:
    inclusive = "a number from 0" if high == float("inf") else f"a number from 0 to {high:.0f}"
    allowed = f"a number above {low:g} and below {high:g}" if low >= 0 else inclusive
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise ConfigurationError(field, value, allowed, remedy)


def parse_bar(content: Mapping[str, Any]) -> Bar:
    """Check a bar as it stands in a recipe; what is left out has its default.

    Raises:
        ConfigurationError: names the entry, the value and what is allowed.
    """
    if not isinstance(content, Mapping):
        raise ConfigurationError("bar", content, "a mapping with metric and minimum")
    known = {field.name for field in fields(Bar)}
    for name in content:
        if name not in known:
            raise ConfigurationError(f"bar.{name}", content[name], f"one of {', '.join(sorted(known))}")
    return Bar(**content)
