"""A small plot's frame: two scales with ticks and titles, drawn on their drawing."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from undercut.report.drawing import Drawing, Scale

WIDTH, HEIGHT = 360.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 26.0, 44.0
LEAST_SPAN = 1e-3  # of values that are all alike


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing with its scales."""

    drawing: Drawing
    across: Scale
    up: Scale

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Return a point's pixels."""
        return self.across(point[0]), self.up(point[1])

    def curve(self, kind: str, points: Iterable[tuple[float, float]]) -> None:
        """Draw a line through ``points``."""
        self.drawing.polyline(f"curve {kind}", [self.at(p) for p in points])

    def dot(self, kind: str, point: tuple[float, float], hint: str, radius: float = 3.5) -> None:
        """Draw a dot that says ``hint`` when the pointer rests on it."""
        x, y = self.at(point)
        self.drawing.hint(self.drawing.add("circle", f"dot {kind}", cx=x, cy=y, r=radius), hint)

    def cross(self, kind: str, point: tuple[float, float], hint: str) -> None:
        """Draw a small cross that says ``hint``."""
        x, y = self.at(point)
        with self.drawing.group(f"cross {kind}", hint):
            self.drawing.line("stroke", (x - 3.5, y - 3.5), (x + 3.5, y + 3.5))
            self.drawing.line("stroke", (x - 3.5, y + 3.5), (x + 3.5, y - 3.5))

    def level(self, kind: str, value: float) -> None:
        """Draw a line across at a value."""
        self.drawing.line(kind, (self.across.start, self.up(value)), (self.across.end, self.up(value)))

    def upright(self, kind: str, value: float) -> None:
        """Draw a line from bottom to top at a value."""
        self.drawing.line(kind, (self.across(value), self.up.start), (self.across(value), self.up.end))


def chart(
    description: str,
    across: tuple[float, float],
    up: Sequence[float],
    titles: tuple[str, str],
    ticks: Sequence[tuple[float, str]] | None = None,
    logarithmic: bool = False,
    right: float = RIGHT,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> Chart:
    """Draw an empty chart.

    Args:
        description: the plot in words.
        across: least and greatest value on the horizontal axis.
        up: the values to be drawn, which decide the vertical axis.
        titles: of the vertical and of the horizontal axis.
        ticks: of the horizontal axis, value and text; round numbers if left out.
        logarithmic: the horizontal axis.
        right: pixels to the right of the plot.
        size: width and height of the drawing, pixels.
    """
    span = max(max(up) - min(up), LEAST_SPAN)
    width, height = size
    drawing = Drawing(width, height, description)
    found = Chart(
        drawing=drawing,
        across=Scale(low=across[0], high=across[1], start=LEFT, end=width - right, logarithmic=logarithmic),
        up=Scale(low=min(up) - 0.1 * span, high=max(up) + 0.12 * span, start=height - BOTTOM, end=TOP),
    )
    decimals = 1 if span > 2 else 2 if span > 0.05 else 3
    for tick in found.up.ticks(4):
        found.level("grid", tick)
        drawing.text("tick", (LEFT - 8, found.up(tick) + 4), f"{tick:.{decimals}f}", "end")
    for tick, text in ticks or [(t, f"{t:g}") for t in found.across.ticks(5)]:
        drawing.line("grid", (found.across(tick), found.up.start), (found.across(tick), found.up.start + 4))
        drawing.text("tick", (found.across(tick), found.up.start + 18), text, "middle")
    drawing.line("axis", (LEFT, found.up.start), (width - right, found.up.start))
    drawing.text("axis-title", (2, 13), titles[0])
    drawing.text("axis-title", (width - right, height - 4), titles[1], "end")
    return found


def finite(
    entries: Iterable[dict[str, float]], across: Callable[[dict[str, float]], float], name: str
) -> list[tuple[float, float]]:
    """Return the points of a curve: ``across`` of each entry and its value ``name``; none of a loss that diverged."""
    return [(across(entry), entry[name]) for entry in entries if math.isfinite(entry[name])]
