"""Quality against price: every candidate with its interval, the bar, and the front that none beats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from undercut.report.drawing import Drawing, Scale, text_width
from undercut.report.placement import Box, place
from undercut.wording import money

Row = Mapping[str, Any]

FONT = 12.5
SMALL = 11.5
LEADER = 21.0  # a name farther off than this is joined to its point by a line
LEFT, RIGHT, TOP, BOTTOM = 52.0, 18.0, 30.0, 46.0


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The drawing with its two scales."""

    drawing: Drawing
    price: Scale
    quality: Scale

    def at(self, row: Row) -> tuple[float, float]:
        """Return a candidate's point."""
        return self.price(row["usd_per_million_requests"]), self.quality(row["metric"]["value"])


def price_plot(rows: Sequence[Row], bar: Mapping[str, Any], metric: str, width: float, height: float) -> Markup:
    """Draw the candidates that have figures.

    Args:
        rows: the selection's candidates that were not lost, at least one.
        bar: the selection's bar.
        metric: the metric's name for the axis.
        width: of the drawing, pixels.
        height: of the drawing, pixels.
    """
    axes = _axes(rows, bar, width, height, _description(rows, bar, metric))
    _grid(axes, metric)
    occupied = _boxes(axes, rows)
    occupied += _bar_lines(axes, rows, bar, occupied)
    occupied += _front(axes, rows)
    _points(axes, rows)
    _names(axes, rows, occupied)
    return axes.drawing.markup()


def _description(rows: Sequence[Row], bar: Mapping[str, Any], metric: str) -> str:
    figures = "; ".join(
        f"{r['candidate']} ({r['verdict']}): {r['metric']['value']:.3f} at {money(r['usd_per_million_requests'])}"
        for r in rows
    )
    return f"{metric} against price per million requests; the bar is {bar['minimum']:.3f}. {figures}."


def _axes(rows: Sequence[Row], bar: Mapping[str, Any], width: float, height: float, description: str) -> Axes:
    prices = [r["usd_per_million_requests"] for r in rows]
    margin = max((max(prices) / min(prices)) ** 0.08, 1.6)
    ends = [bar["minimum"], *(r["metric"][end] for r in rows for end in ("low", "high"))]
    span = max(max(ends) - min(ends), 0.02)
    return Axes(
        drawing=Drawing(width, height, description),
        price=Scale(
            low=min(prices) / margin, high=max(prices) * margin, start=LEFT, end=width - RIGHT, logarithmic=True
        ),
        quality=Scale(
            low=max(min(ends) - 0.14 * span, -0.02),
            high=min(max(ends) + 0.1 * span, 1 + 0.04 * span),
            start=height - BOTTOM,
            end=TOP,
        ),
    )


def _grid(axes: Axes, metric: str) -> None:
    drawing, price, quality = axes.drawing, axes.price, axes.quality
    ticks = quality.ticks(6 if drawing.height > 300 else 4)
    decimals = 2 if all(abs(t * 100 - round(t * 100)) < 1e-6 for t in ticks) else 3
    for tick in ticks:
        drawing.line("grid", (price.start, quality(tick)), (price.end, quality(tick)))
        drawing.text("tick", (price.start - 8, quality(tick) + 4), f"{tick:.{decimals}f}", "end")
    for tick in price.ticks(int(drawing.width // 110)):
        drawing.line("grid", (price(tick), quality.start), (price(tick), quality.start + 5))
        drawing.text("tick", (price(tick), quality.start + 19), _short(tick), "middle")
    drawing.line("axis", (price.start, quality.start), (price.end, quality.start))
    drawing.text("axis-title", (2, 14), f"{metric}, with its interval")
    title = "price of a million requests, logarithmic"
    drawing.text("axis-title", (price.end, drawing.height - 6), title, "end")


def _short(usd: float) -> str:
    """Return an axis label without superfluous zeros."""
    text = money(usd)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bar_lines(axes: Axes, rows: Sequence[Row], bar: Mapping[str, Any], occupied: Sequence[Box]) -> list[Box]:
    """Draw the minimum, and the largest drop from the best; returns the boxes of their names."""
    drawing, price, quality = axes.drawing, axes.price, axes.quality
    minimum = quality(bar["minimum"])
    drawing.add(
        "rect", "below", x=price.start, y=minimum, width=price.end - price.start, height=quality.start - minimum
    )
    lowest = max(r["metric"]["value"] for r in rows) - bar["maximum_drop"]
    lines = [(bar["minimum"], "bar", f"the bar for the lower end, {bar['minimum']:.3f}")]
    if quality.low < lowest < quality.high:
        lines.append((lowest, "drop", f"{bar['maximum_drop'] * 100:.1f} points under the best"))
    boxes: list[Box] = []
    for value, kind, name in lines:
        drawing.line(kind, (price.start, quality(value)), (price.end, quality(value)))
        boxes.append(_line_name(axes, quality(value), [*occupied, *boxes], name, kind))
    return boxes


def _line_name(axes: Axes, y: float, occupied: Sequence[Box], name: str, kind: str) -> Box:
    """Write a line's name over or under it, at the end where it covers least; returns its box."""
    width = text_width(name, SMALL)
    lefts = (axes.price.end - width - 4, axes.price.start + 4)
    tops = [top for top in (y - SMALL - 6, y + 3) if TOP <= top <= axes.quality.start - SMALL - 2]
    boxes = [Box(left, top, left + width, top + SMALL + 3) for left in lefts for top in tops]
    box = min(boxes, key=lambda b: sum(b.overlap(other) for other in occupied))
    at_end = box.left == lefts[0]
    x = box.right if at_end else box.left
    axes.drawing.text(f"{kind}-name halo", (x, box.bottom - 3), name, "end" if at_end else "start")
    return box


def _front(axes: Axes, rows: Sequence[Row]) -> list[Box]:
    """Draw the Pareto front as steps, the best quality that each price buys; returns the steps' boxes."""
    front = sorted((r for r in rows if r["pareto"]), key=lambda r: r["usd_per_million_requests"])
    points: list[tuple[float, float]] = []
    for row in front:
        x, y = axes.at(row)
        if points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    points.append((axes.price.end, points[-1][1]))
    axes.drawing.polyline("front", points)
    return [
        Box(min(x, right) - 1, min(y, lower) - 1, max(x, right) + 1, max(y, lower) + 1)
        for (x, y), (right, lower) in pairwise(points)
    ]


def _boxes(axes: Axes, rows: Sequence[Row]) -> list[Box]:
    """Return the boxes of markers and error bars."""
    found = []
    for row in rows:
        x, y = axes.at(row)
        low, high = axes.quality(row["metric"]["low"]), axes.quality(row["metric"]["high"])
        reach = 13 if row["verdict"] == "chosen" else 8
        found += [Box(x - reach, y - reach, x + reach, y + reach), Box(x - 4, high, x + 4, low)]
    return found


def _points(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw error bars and markers, the chosen one last."""
    drawing = axes.drawing
    for row in sorted(rows, key=lambda r: r["verdict"] == "chosen"):
        x, y = axes.at(row)
        metric = row["metric"]
        low, high = axes.quality(metric["low"]), axes.quality(metric["high"])
        figures = f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
        hint = f"{row['candidate']}: {figures}, {money(row['usd_per_million_requests'])}"
        with drawing.group(f"candidate {row['verdict']}", hint):
            drawing.line("interval", (x, low), (x, high))
            drawing.line("interval", (x - 4, low), (x + 4, low))
            drawing.line("interval", (x - 4, high), (x + 4, high))
            if row["verdict"] == "chosen":
                drawing.add("circle", "ring", cx=x, cy=y, r=10)
            drawing.add("circle", "marker", cx=x, cy=y, r=6)


def _names(axes: Axes, rows: Sequence[Row], obstacles: Sequence[Box]) -> None:
    points = [axes.at(r) for r in rows]
    # The chosen one's name is written in bold.
    sizes = [(text_width(r["candidate"], FONT + (r["verdict"] == "chosen")), FONT + 3) for r in rows]
    frame = Box(axes.price.start + 2, TOP, axes.price.end, axes.quality.start - 2)
    for row, point, spot in zip(rows, points, place(points, sizes, obstacles, frame), strict=True):
        box = spot.box
        end = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
        if math.dist(point, end) > LEADER:
            axes.drawing.line("leader", point, end)
        kind = f"name halo {row['verdict']}"
        axes.drawing.text(kind, ((box.left + box.right) / 2, box.bottom - 4), row["candidate"], "middle")
