"""The choice: of the candidates that clear the bar, the cheapest by measured price; and why each other lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from undercut.bar import TRAFFIC, Bar
from undercut.intervals import Interval
from undercut.wording import money, times

TIE = 0.01
POINTS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1"}


@dataclass(kw_only=True)
class Contender:
    """A candidate with what was measured of it; ``reason`` and ``verdict`` are filled by :func:`choose`."""

    name: str
    metric: Interval
    latency_ms: float
    usd_per_million_requests: float
    bytes: int
    lost: str = ""
    verdict: str = ""
    reason: str = ""
    misses: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Tell whether the bar is cleared."""
        return not self.lost and not self.misses


def choose(contenders: Sequence[Contender], bar: Bar) -> Contender | None:
    """Choose among candidates and write each one's verdict and reason into it.

    The lower end of the interval must reach the bar's minimum, the point estimate may lie at most
    ``maximum_drop`` under the best, the latency must be within its limit. Of those that pass the cheapest
    is chosen; prices within 1 % are a tie, which latency and then size decide.

    Returns:
        The chosen one, or None if none passes.
    """
    running = [c for c in contenders if not c.lost]
    best = max((c.metric.value for c in running), default=0.0)
    for contender in running:
        contender.misses = misses(contender, bar, best)
    passed = [c for c in running if c.passed]
    chosen = cheapest(passed)
    least = min((c.usd_per_million_requests for c in passed), default=0.0)
    for contender in contenders:
        contender.verdict, contender.reason = verdict(contender, chosen, least)
    return chosen


def cheapest(passed: Sequence[Contender]) -> Contender | None:
    """Return the cheapest; among prices within 1 % of it the fastest, then the smallest."""
    if not passed:
        return None
    least = min(c.usd_per_million_requests for c in passed)
    tied = [c for c in passed if c.usd_per_million_requests <= least * (1 + TIE)]
    return min(tied, key=lambda c: (c.latency_ms, c.bytes))


def misses(contender: Contender, bar: Bar, best: float) -> list[str]:
    """Say what a candidate misses, and by how much; empty if nothing."""
    name, metric = POINTS[bar.metric], contender.metric
    found = []
    if metric.low < bar.minimum:
        gap = (bar.minimum - metric.low) * 100
        found.append(f"the lower end of {name} is {metric.low:.3f}, {gap:.1f} points under {bar.minimum:.3f}")
    if best - metric.value > bar.maximum_drop + 1e-12:
        drop = (best - metric.value) * 100
        allowed = bar.maximum_drop * 100
        found.append(f"{name} is {drop:.1f} points under the best, {allowed:.1f} are allowed")
    if bar.maximum_latency_ms and contender.latency_ms > bar.maximum_latency_ms:
        found.append(f"one request takes {contender.latency_ms:.1f} ms, {bar.maximum_latency_ms:g} ms are allowed")
    return found


def verdict(contender: Contender, chosen: Contender | None, least: float) -> tuple[str, str]:
    """Return ``chosen``, ``passed``, ``missed`` or ``lost``, and the reason in a sentence.

    Args:
        contender: whom it is about.
        chosen: what :func:`cheapest` returned.
        least: the lowest price of those that passed; the chosen one's may be up to 1 % above it.
    """
    if contender.lost:
        return "lost", contender.lost
    if contender.misses:
        return "missed", "missed the bar: " + "; ".join(contender.misses)
    assert chosen is not None, "something passed, so something is chosen"
    if contender is chosen:
        return "chosen", "the cheapest that clears the bar"
    if contender.usd_per_million_requests > least * (1 + TIE):
        return "passed", f"passed, but costs {dearer(contender, chosen)} {chosen.name}"
    tie = f"passed at the same price as {chosen.name}"
    if contender.latency_ms > chosen.latency_ms:
        return "passed", f"{tie}, but answers in {contender.latency_ms:.3g} ms instead of {chosen.latency_ms:.3g} ms"
    if contender.bytes > chosen.bytes:
        return "passed", f"{tie}, but is larger"
    return "passed", f"{tie}, as fast and as large, and stands after it in the list"


def dearer(contender: Contender, chosen: Contender) -> str:
    """Return ``4.3 times as much as``, or below a tenth more ``2.5 % more than``."""
    ratio = contender.usd_per_million_requests / chosen.usd_per_million_requests
    return f"{times(ratio)} as much as" if ratio >= 1.1 else f"{(ratio - 1) * 100:.1f} % more than"


def sentence(chosen: Contender | None, contenders: Sequence[Contender], bar: Bar, reference: str) -> str:
    """Say the choice in a sentence; if none passed, which came nearest and what it missed.

    Args:
        chosen: what :func:`choose` returned.
        contenders: all candidates.
        bar: the bar.
        reference: the candidate whose price is compared with, the fine-tuned model as it is.
    """
    name = POINTS[bar.metric]
    if chosen is None:
        running = [c for c in contenders if not c.lost]
        if not running:
            return "No candidate could be made; see each one's reason."
        nearest = min(running, key=lambda c: (len(c.misses), -c.metric.low))
        return f"No candidate clears the bar; the nearest, {nearest.name}, misses it: {'; '.join(nearest.misses)}."
    metric = chosen.metric
    text = (
        f"{chosen.name}: {name} {metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}) clears {bar.minimum:.3f}, "
        f"at {money(chosen.usd_per_million_requests)} per million requests"
    )
    other = next((c for c in contenders if c.name == reference and not c.lost and c is not chosen), None)
    if other is None or other.usd_per_million_requests <= chosen.usd_per_million_requests * (1 + TIE):
        return f"{text}."
    ratio = other.usd_per_million_requests / chosen.usd_per_million_requests
    return f"{text}, {times(ratio)} cheaper than the fine-tuned model as it is."


def pareto(contenders: Sequence[Contender]) -> set[str]:
    """Return the names of candidates that no other beats in both price and quality."""
    running = [c for c in contenders if not c.lost]
    return {
        c.name
        for c in running
        if not any(
            o.usd_per_million_requests <= c.usd_per_million_requests
            and o.metric.value >= c.metric.value
            and (o.usd_per_million_requests, -o.metric.value) != (c.usd_per_million_requests, -c.metric.value)
            for o in running
        )
    }


def usd_per_million_requests(usd_per_hour: float, requests_per_second: float) -> float:
    """Return the price of a million requests on a device that does nothing else."""
    return usd_per_hour / 3600 / requests_per_second * 1e6


def batch_of(traffic: str) -> str:
    """Return the profile's key of the batch size that ``traffic`` is priced at."""
    return str(TRAFFIC[traffic])


def hosted_comparison(
    hosted: Sequence[Any], tokens_in: float, tokens_out: float, own_price: float | None, run_cost: float
) -> list[Mapping[str, Any]]:
    """Compare with hosted APIs, and say after how many requests the run has paid for itself.

    Args:
        hosted: :class:`undercut.costs.HostedPrice` entries.
        tokens_in: tokens of a request to them: instruction, label list and text.
        tokens_out: tokens of an answer.
        own_price: of a million requests of the chosen candidate, US dollars; None if none was chosen.
        run_cost: what this run cost, US dollars.
    """
    rows: list[Mapping[str, Any]] = []
    for price in hosted:
        per_million = tokens_in * price.usd_per_million_input_tokens + tokens_out * price.usd_per_million_output_tokens
        saved = (per_million - own_price) / 1e6 if own_price is not None else 0.0
        rows.append(
            {
                "name": price.name,
                "usd_per_million_requests": per_million,
                "usd_per_million_tokens": per_million / (tokens_in + tokens_out),
                "date": price.date,
                "source": price.source,
                "break_even_requests": run_cost / saved if saved > 0 else None,
            }
        )
    return rows
