"""How a language model learned on text without labels: its loss, with the perplexity that it stands for."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from undercut.report.chart import Chart, chart, finite
from undercut.report.drawing import Scale
from undercut.wording import quantity

PERPLEXITY_MARGIN = 58.0


def loss_plot(metrics: Mapping[str, Any]) -> Markup | None:
    """Draw training and held-out loss by tokens, perplexity at the right, and what was kept and went before.

    Args:
        metrics: of transfer's or pretrain's model: ``curve``, ``tokens_seen``, ``best_step``, ``before``.

    Returns:
        The plot; None if every loss diverged.
    """
    curve = metrics["curve"]
    tokens_a_step = metrics["tokens_seen"] / curve[-1]["step"]
    parts = {
        name: finite(curve, lambda point: point["step"] * tokens_a_step, f"{part}_loss")
        for name, part in (("training", "train"), ("held out", "validation"))
    }
    before = [loss for loss in [metrics.get("before", {}).get("loss", math.inf)] if math.isfinite(loss)]
    values = [value for points in parts.values() for _, value in points] + before
    if not values:
        return None
    figures = "; ".join(f"{name}: {', '.join(f'{v:.3f}' for _, v in points)}" for name, points in parts.items())
    found = chart(
        f"Loss by tokens trained on. {figures}.",
        (0, metrics["tokens_seen"] * 1.03),
        values,
        ("loss", "tokens trained on"),
        [(tick, quantity(tick)) for tick in Scale(low=0, high=metrics["tokens_seen"], start=0, end=1).ticks(4)],
        right=PERPLEXITY_MARGIN,
    )
    _perplexity(found)
    for loss in before:
        found.level("level", loss)
    found.upright("chosen-epoch", metrics["best_step"] * tokens_a_step)
    for (name, points), kind in zip(parts.items(), ("first", "second"), strict=True):
        found.curve(kind, points)
        for tokens, loss in points:
            hint = f"{name}, {quantity(tokens)} tokens: loss {loss:.3f}, perplexity {quantity(math.exp(loss))}"
            found.dot(kind, (tokens, loss), hint)
    return found.drawing.markup()


def _perplexity(found: Chart) -> None:
    """Write the perplexities at the right: a loss is the logarithm of one."""
    low, high = math.exp(found.up.low), math.exp(found.up.high)
    right = found.across.end
    for tick in Scale(low=low, high=high, start=0, end=1, logarithmic=True).ticks(5):
        y = found.up(math.log(tick))
        found.drawing.line("axis", (right, y), (right + 4, y))
        found.drawing.text("tick", (right + 8, y + 4), quantity(tick))
    found.drawing.text("axis-title", (right + PERPLEXITY_MARGIN - 2, 13), "perplexity", "end")
