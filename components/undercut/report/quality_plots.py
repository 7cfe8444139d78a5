"""What the shown candidate gets right and wrong: confusion matrix and calibration; how its teacher learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from undercut.report.drawing import Drawing, Scale, text_width

COUNTED_LABELS = 16
DRAWN_LABELS = 150
NAME_WIDTH = 150.0
JOINED_ROWS = 5  # answers that a bin of the calibration plot needs for the line to pass through it


def shortened(text: str, font_size: float, width: float) -> str:
    """Cut ``text`` to about ``width`` pixels."""
    if text_width(text, font_size) <= width:
        return text
    return text[: max(1, int(width / (font_size * 0.57)) - 1)] + "…"


def confusion_plot(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """Draw a confusion matrix of shape (labels, labels), truth in rows: right answers and mistakes in two colours.

    Shades are shares of the row. Up to 16 labels have their counts written into the cells.
    """
    count = len(labels)
    cell = 40.0 if count <= 6 else 32.0 if count <= COUNTED_LABELS else min(20.0, max(9.0, 760 / count))
    font = min(12.0, cell * 0.92)
    names = [shortened(label, font, NAME_WIDTH) for label in labels]
    margin = max(text_width(name, font) for name in names) + 12
    right = sum(confusion[i][i] for i in range(count))
    total = sum(map(sum, confusion))
    description = f"Confusion matrix of {count} labels: {right} of {total} rows right; the pairs are listed beside."
    drawing = Drawing(margin + count * cell + 8, margin + count * cell + 8, description, "matrix")
    for i, name in enumerate(names):
        middle = margin + (i + 0.5) * cell
        drawing.text("cell-name", (margin - 6, middle + font * 0.35), name, "end").set("font-size", f"{font:.1f}")
        column = drawing.text("cell-name", (0, 0), name)
        column.set("transform", f"translate({middle + font * 0.35:.1f} {margin - 6:.1f}) rotate(-90)")
        column.set("font-size", f"{font:.1f}")
    side = count * cell
    drawing.add("rect", "matrix-ground", x=margin, y=margin, width=side, height=side)
    for i, row in enumerate(confusion):
        for j, number in enumerate(row):
            if number:
                _cell(drawing, (margin + j * cell, margin + i * cell), cell, (labels[i], labels[j]), number, sum(row))
    return drawing.markup()


def _cell(
    drawing: Drawing, at: tuple[float, float], cell: float, pair: tuple[str, str], number: int, total: int
) -> None:
    opacity = 0.14 + 0.86 * (number / total) ** 0.6
    kind = "right" if pair[0] == pair[1] else "wrong"
    gap = 1.0 if cell > 14 else 0.4
    side = cell - 2 * gap
    rectangle = drawing.add("rect", kind, x=at[0] + gap, y=at[1] + gap, width=side, height=side, fill_opacity=opacity)
    drawing.hint(rectangle, f"{pair[0]}, answered {pair[1]}: {number} of {total}")
    if cell >= 32:
        strong = "cell-count strong" if opacity > 0.62 else "cell-count"
        drawing.text(strong, (at[0] + cell / 2, at[1] + cell / 2 + 4), str(number), "middle")


def calibration_plot(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw how often answers of each probability are right, and how many there are of each."""
    width, height, strip = 360.0, 330.0, 34.0
    filled = [b for b in bins if b["n"]]
    figures = ", ".join(f"{b['confidence']:.2f} right {b['accuracy']:.2f} of {b['n']}" for b in filled)
    drawing = Drawing(width, height, f"Calibration, probability against share right: {figures}.")
    across = Scale(low=0, high=1, start=44, end=width - 14)
    up = Scale(low=0, high=1, start=height - 48 - strip, end=26)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        drawing.line("grid", (across.start, up(tick)), (across.end, up(tick)))
        drawing.text("tick", (across.start - 8, up(tick) + 4), f"{tick:.0%}", "end")
        drawing.text("tick", (across(tick), height - 26), f"{tick:.0%}", "middle")
    drawing.line("ideal", (across(0), up(0)), (across(1), up(1)))
    drawing.text("tick halo", (across(0.03), up(0.93)), "not sure enough")
    drawing.text("tick halo", (across(0.98), up(0.05)), "too sure", "end")
    joined = [b for b in filled if b["n"] >= JOINED_ROWS]
    drawing.polyline("curve first", [(across(b["confidence"]), up(b["accuracy"])) for b in joined])
    most = max(b["n"] for b in filled)
    for b in filled:
        tall = max(1.0, b["n"] / most * (strip - 6))
        bottom = height - 42
        left, right = across(b["low"]) + 1, across(b["high"]) - 1
        drawing.add("rect", "mass", x=left, y=bottom - tall, width=right - left, height=tall)
        size = 3 + 5 * (b["n"] / most) ** 0.5
        point = drawing.add("circle", "dot first", cx=across(b["confidence"]), cy=up(b["accuracy"]), r=size)
        drawing.hint(point, f"{b['n']} answers given {b['confidence']:.0%} on average: {b['accuracy']:.0%} right")
    drawing.text("axis-title", (2, 13), "share right")
    drawing.text("axis-title", (across.end, height - 6), "the answer's probability, and how many have it", "end")
    return drawing.markup()


def curve_plot(title: str, series: Mapping[str, Sequence[tuple[int, float]]], best_epoch: int) -> Markup:
    """Draw one or two series of (epoch, value) on one scale, and mark the chosen epoch."""
    width, height = 360.0, 260.0
    values = [v for points in series.values() for _, v in points]
    last = max(e for points in series.values() for e, _ in points)
    described = "; ".join(f"{n}: {', '.join(f'{v:.3f}' for _, v in p)}" for n, p in series.items())
    drawing = Drawing(width, height, f"{title} by epoch. {described}. Epoch {best_epoch} was chosen.")
    span = max(max(values) - min(values), 1e-3)
    across = Scale(low=0.7, high=max(last, 1.3) + 0.3, start=48, end=width - 12)
    up = Scale(low=min(values) - 0.1 * span, high=max(values) + 0.12 * span, start=height - 44, end=26)
    ticks = up.ticks(4)
    decimals = 2 if span > 0.05 else 3
    for tick in ticks:
        drawing.line("grid", (across.start, up(tick)), (across.end, up(tick)))
        drawing.text("tick", (across.start - 8, up(tick) + 4), f"{tick:.{decimals}f}", "end")
    for epoch in range(1, last + 1, max(1, round(last / 8))):
        drawing.text("tick", (across(epoch), up.start + 18), str(epoch), "middle")
    drawing.line("chosen-epoch", (across(best_epoch), up.start), (across(best_epoch), up.end))
    for (name, points), kind in zip(series.items(), ("first", "second"), strict=False):
        drawing.polyline(f"curve {kind}", [(across(e), up(v)) for e, v in points])
        for epoch, value in points:
            dot = drawing.add("circle", f"dot {kind}", cx=across(epoch), cy=up(value), r=3.5)
            drawing.hint(dot, f"{name}, epoch {epoch}: {value:.4f}")
    drawing.text("axis-title", (2, 13), title)
    drawing.text("axis-title", (across.end, height - 4), "epoch", "end")
    return drawing.markup()
