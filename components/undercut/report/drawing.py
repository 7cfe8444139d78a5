"""SVG by hand: a drawing that takes its colours from the page, and the scales and ticks of its axes.

Colours are CSS classes of ``report.css``, so that a plot follows the page into the dark and onto paper.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup


class Drawing:
    """An SVG image of ``width`` by ``height`` pixels, described in words for those who do not see it."""

    def __init__(self, width: float, height: float, description: str, kind: str = "") -> None:
        self.width, self.height = width, height
        box = f"0 0 {width:g} {height:g}"
        self.root = ElementTree.Element("svg", {"viewBox": box, "role": "img", "aria-label": description})
        self.root.set("width", f"{width:g}")
        self.root.set("height", f"{height:g}")
        self.root.set("class", f"plot {kind}".strip())
        self._parent = self.root

    def add(self, tag: str, kind: str = "", text: str = "", **attributes: float | str) -> ElementTree.Element:
        """Append an element; ``kind`` is its CSS class, an attribute's underscore stands for a hyphen."""
        element = ElementTree.SubElement(self._parent, tag)
        if kind:
            element.set("class", kind)
        for name, value in attributes.items():
            shown = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
            element.set(name.replace("_", "-"), shown)
        element.text = text or None
        return element

    @contextlib.contextmanager
    def group(self, kind: str, hint: str) -> Iterator[None]:
        """Put what is drawn within into one group, with a hint for the pointer."""
        outer = self._parent
        self._parent = self.add("g", kind)
        self.hint(self._parent, hint)
        yield
        self._parent = outer

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a straight line."""
        self.add("line", kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def text(self, kind: str, at: tuple[float, float], text: str, anchor: str = "start") -> ElementTree.Element:
        """Write one line of text whose baseline begins, is centred or ends ``at`` a point."""
        return self.add("text", kind, text, x=at[0], y=at[1], text_anchor=anchor)

    def polyline(self, kind: str, points: Sequence[tuple[float, float]]) -> None:
        """Draw a line through ``points``."""
        self.add("polyline", kind, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))

    def hint(self, element: ElementTree.Element, text: str) -> None:
        """Say ``text`` when the pointer rests on ``element``."""
        ElementTree.SubElement(element, "title").text = text

    def markup(self) -> Markup:
        """Return the SVG; texts in it are escaped."""
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From values between ``low`` and ``high`` to pixels between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``."""
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return at most about ``count`` round values; on a logarithmic scale decades and parts of them."""
        if not self.logarithmic:
            return linear_ticks(self.low, self.high, count)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
            finer = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
            if len(found) < 2 or len(finer) <= count:
                found = finer
        return found


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Return multiples of 1, 2, 2.5 or 5 times a power of ten between ``low`` and ``high``."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.8)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def text_width(text: str, font_size: float) -> float:
    """Return about how wide ``text`` is in a sans-serif system font, in pixels, rather too much than too little."""
    wide = sum(1 if ord(c) < 0x2E80 else 1.8 for c in text)
    return wide * font_size * 0.57
