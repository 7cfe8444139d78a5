"""Differences in accuracy as they are written and drawn: in points, with an interval, on an axis with zero on it."""

from collections.abc import Mapping, Sequence
from typing import Any

from undercut.report.drawing import linear_ticks

Difference = Mapping[str, float]

MINUS = "\N{MINUS SIGN}"
LEAST_MARGIN = 0.002  # of an axis, as a share of one


def effect(difference: Difference) -> str:
    """Return ``better`` or ``worse`` if the whole interval is, otherwise ``even``."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "even"


def points(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    text = f"{share * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def axis(differences: Sequence[Difference]) -> dict[str, Any]:
    """Return the ends of an axis that holds all intervals and zero (shares), and its ``ticks``: place and text."""
    low = min(0.0, *(d["low"] for d in differences))
    high = max(0.0, *(d["high"] for d in differences))
    margin = max(0.06 * (high - low), LEAST_MARGIN)
    low, high = low - margin, high + margin
    ticks = linear_ticks(low * 100, high * 100, 4)
    return {"low": low, "high": high, "ticks": [{"at": tick / 100, "text": _tick(tick)} for tick in ticks]}


def _tick(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+g}".replace("-", MINUS)
