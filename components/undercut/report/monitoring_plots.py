"""The champion's data against today's: how rows are spread over labels, and over levels of confidence."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from undercut.report.drawing import Drawing, Scale
from undercut.report.quality_plots import shortened
from undercut.wording import percent

Test = Mapping[str, Any]

WIDTH, NAMES, RIGHT = 360.0, 152.0, 16.0
ROW, TOP, BOTTOM = 27.0, 8.0, 40.0
MOST_ROWS = 8
FONT = 12.0


def shares_plot(name: str, test: Test) -> Markup:
    """Draw the shares that moved most, then and now, one label a line.

    Args:
        name: what is shared out.
        test: an entry of ``tests`` in ``monitoring.json``.
    """
    ordered = sorted(test["shares"], key=lambda share: -abs(share["now"] - share["before"]))[:MOST_ROWS]
    height = TOP + ROW * len(ordered) + BOTTOM
    figures = "; ".join(f"{s['of']} {_change(s)}" for s in ordered)
    rest = len(test["shares"]) - len(ordered)
    others = f"; {rest} more moved less" if rest else ""
    drawing = Drawing(WIDTH, height, f"{name}, shares in the champion's data and now: {figures}{others}.")
    across = _shares(test, NAMES, WIDTH - RIGHT)
    bottom = height - BOTTOM
    for tick in across.ticks(4):
        drawing.line("grid", (across(tick), TOP), (across(tick), bottom))
        drawing.text("tick", (across(tick), bottom + 16), f"{tick:.0%}", "middle")
    for line, share in enumerate(ordered):
        y = TOP + ROW * (line + 0.5)
        then, now = across(share["before"]), across(share["now"])
        with drawing.group("share-line", f"{share['of']}: {_change(share)}"):
            drawing.text("cell-name", (NAMES - 12, y + 4), shortened(share["of"], FONT, NAMES - 14), "end")
            drawing.line("moved", (then, y), (now, y))
            drawing.add("circle", "then", cx=then, cy=y, r=5.5)
            drawing.add("circle", "now", cx=now, cy=y, r=4.5)
    drawing.text("axis-title", (WIDTH - RIGHT, height - 4), "share of the rows", "end")
    return drawing.markup()


def confidence_plot(name: str, test: Test) -> Markup:
    """Draw how many rows have each level of confidence: now as bars, then as an outline.

    Args:
        name: whose confidence.
        test: an entry of ``tests`` in ``monitoring.json``.
    """
    height, left = 230.0, 48.0
    shares = test["shares"]
    figures = "; ".join(f"{s['of']} {_change(s)}" for s in shares if s["before"] or s["now"])
    drawing = Drawing(WIDTH, height, f"{name}, shares of rows in the champion's data and now: {figures}.")
    across = Scale(low=0, high=len(shares), start=left, end=WIDTH - RIGHT)
    up = _shares(test, height - BOTTOM, TOP)
    for tick in up.ticks(4):
        drawing.line("grid", (left, up(tick)), (WIDTH - RIGHT, up(tick)))
        drawing.text("tick", (left - 8, up(tick) + 4), f"{tick:.0%}", "end")
    outline = [(across(0), up(0))]
    for place, share in enumerate(shares):
        start, end = across(place), across(place + 1)
        outline += [(start, up(share["before"])), (end, up(share["before"]))]
        bar = drawing.add("rect", "mass", x=start + 1.5, y=up(share["now"]), width=end - start - 3)
        bar.set("height", f"{up(0) - up(share['now']):.2f}")
        drawing.hint(bar, f"confidence {share['of']}: {_change(share)}")
    drawing.polyline("outline", [*outline, (across.end, up(0))])
    drawing.line("axis", (left, up(0)), (WIDTH - RIGHT, up(0)))
    for part in (0, 0.25, 0.5, 0.75, 1):
        drawing.text("tick", (across(part * len(shares)), up(0) + 16), f"{part:.0%}", "middle")
    drawing.text("axis-title", (WIDTH - RIGHT, height - 4), "confidence, and the share of rows that have it", "end")
    return drawing.markup()


def _shares(test: Test, start: float, end: float) -> Scale:
    most = max(max(share["before"], share["now"]) for share in test["shares"])
    return Scale(low=0, high=min(1.0, 1.08 * most), start=start, end=end)


def _change(share: Mapping[str, float]) -> str:
    return f"{percent(share['before'])} then, {percent(share['now'])} now"
