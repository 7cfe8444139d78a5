import random
from typing import Any
from xml.etree import ElementTree

import pytest
from undercut.report.choice import log_positions
from undercut.report.drawing import Scale, linear_ticks
from undercut.report.placement import Box, place
from undercut.report.price_plot import price_plot
from undercut.report.quality import confused_pairs
from undercut.report.quality_plots import confusion_plot, curve_plot
from undercut.report.spending import decimals

BAR = {"minimum": 0.8, "maximum_drop": 0.02}


def candidate(name: str, value: float, price: float, verdict: str = "passed") -> dict[str, Any]:
    metric = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {"candidate": name, "metric": metric, "usd_per_million_requests": price, "verdict": verdict, "pareto": True}


def test_linear_ticks_are_round() -> None:
    assert linear_ticks(0.79, 0.93, 6) == pytest.approx([0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92])
    assert linear_ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_logarithmic_ticks_are_decades_or_parts_of_them() -> None:
    wide = Scale(low=0.002, high=40, start=0, end=100, logarithmic=True)
    assert wide.ticks() == pytest.approx([0.01, 0.1, 1, 10])
    narrow = Scale(low=0.0018, high=0.0044, start=0, end=100, logarithmic=True)
    assert narrow.ticks() == pytest.approx([0.002, 0.003, 0.004])
    assert wide(0.002) == 0
    assert wide(40) == 100


def test_names_cover_neither_each_other_nor_the_points() -> None:
    dice = random.Random(0)
    points = [(dice.uniform(50, 750), dice.uniform(50, 350)) for _ in range(10)]
    obstacles = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    frame = Box(0, 0, 800, 400)
    boxes = [p.box for p in place(points, [(120.0, 15.0)] * 10, obstacles, frame)]
    for i, box in enumerate(boxes):
        assert box.outside(frame) == pytest.approx(0)
        assert all(box.overlap(other) == 0 for other in [*boxes[:i], *obstacles])


def test_a_price_plot_holds_one_candidate_and_many() -> None:
    one = ElementTree.fromstring(price_plot([candidate("a/as-is", 0.9, 0.002, "chosen")], BAR, "accuracy", 860, 440))
    assert len(one.findall(".//circle[@class='marker']")) == 1
    rows = [candidate(f"n{i}/int8", 0.85 + i / 500, 0.002 * 1.5**i) for i in range(12)]
    drawing = ElementTree.fromstring(price_plot(rows, BAR, "accuracy", 364, 380))
    assert [t.text for t in drawing.iter("text") if "name" in t.get("class", "").split()] == [
        r["candidate"] for r in rows
    ]
    for marker in drawing.iter("circle"):
        assert 0 <= float(marker.get("cx", "-1")) <= 364
        assert 0 <= float(marker.get("cy", "-1")) <= 380


def test_a_hostile_name_stays_text_in_a_plot() -> None:
    name = "<script>alert(1)</script>"
    assert "<script" not in price_plot([candidate(name, 0.9, 0.002)], BAR, "accuracy", 860, 440)
    assert "<script" not in confusion_plot([[3, 1], [0, 2]], [name, "b"])


def test_the_confusion_matrix_draws_what_occurs() -> None:
    few = ElementTree.fromstring(confusion_plot([[3, 1], [0, 2]], ["a", "b"]))
    assert [c.text for c in few.iter("text") if "cell-count" in c.get("class", "")] == ["3", "1", "2"]
    assert len(few.findall("rect[@class='wrong']")) == 1
    labels = [f"label number {i}" for i in range(77)]
    matrix = [[40 if i == j else int((i * 7 + j) % 13 == 0) for j in range(77)] for i in range(77)]
    many = confusion_plot(matrix, labels)
    assert len(many) < 200_000
    assert float(ElementTree.fromstring(many).get("width", "inf")) < 1000
    assert "cell-count" not in many


def test_confused_pairs_come_by_frequency() -> None:
    pairs = confused_pairs([[5, 2, 0], [1, 9, 0], [2, 0, 2]], ["a", "b", "c"])
    assert [(p["label"], p["predicted"], p["count"]) for p in pairs] == [("c", "a", 2), ("a", "b", 2), ("b", "a", 1)]
    assert pairs[0]["share"] == 0.5


def test_a_curve_of_one_epoch_is_a_point() -> None:
    drawing = ElementTree.fromstring(curve_plot("loss", {"train": [(1, 0.5)]}, 1))
    assert len(drawing.findall("circle")) == 1


def test_prices_lie_on_a_logarithmic_line() -> None:
    assert log_positions([1, 10, 100])[-1] == 1
    first, second, third = log_positions([1, 10, 100])
    assert second - first == pytest.approx(third - second)
    assert log_positions([0, 0]) == [0, 0]
    assert log_positions([0, 5])[0] == 0


def test_the_ledger_s_decimals_follow_its_sum() -> None:
    assert [decimals(total) for total in (0, 0.0021, 0.34, 12.0, 4000.0)] == [2, 6, 4, 2, 2]
