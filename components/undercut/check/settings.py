"""Settings that decide a run's outcome, checked before it starts."""

from collections.abc import Mapping, Sequence
from typing import Any

from undercut.bar import TRAFFIC, parse_bar
from undercut.candidates import parse_candidates
from undercut.costs import CPU_CORE, available_cores, parse_price_book
from undercut.errors import ConfigurationError

TARGETS = ("local",)


def check_settings(
    bar: Mapping[str, Any],
    candidates: Sequence[object],
    prices: Mapping[str, Any],
    hardware: str,
    traffic: str,
    target: str,
) -> float:
    """Check the settings together.

    Returns:
        What this machine costs, in US dollars an hour: its cores at the price book's price.

    Raises:
        ConfigurationError: the first setting that is wrong.
    """
    parse_bar(bar)
    parse_candidates(candidates)
    book = parse_price_book(prices)
    book.usd_per_hour(hardware)
    if traffic not in TRAFFIC:
        raise ConfigurationError("traffic", traffic, f"one of {', '.join(TRAFFIC)}")
    if target not in TARGETS:
        raise ConfigurationError("target", target, f"one of {', '.join(TARGETS)}")
    return available_cores() * book.usd_per_hour(CPU_CORE)
