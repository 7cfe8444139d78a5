from dataclasses import replace
from typing import Any

import pytest
from undercut.report.comparisons import comparisons, p_text, sentence
from undercut.report.differences import MINUS, axis, effect, points

from tests.report.conftest import hand_made_run


def difference(value: float, reach: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def pair(candidate: str, against: str, value: float) -> dict[str, Any]:
    counts = {"first_only": 3, "second_only": 5, "p_value": 0.04}
    return {"candidate": candidate, "against": against, "n": 200, "difference": difference(value), **counts}


def run_of(chosen: str, best: str, pairs: list[dict[str, Any]]) -> Any:
    rows = [{"candidate": name, "verdict": "chosen" if name == chosen else "missed"} for name in "abcd"]
    return hand_made_run(selection={"chosen": chosen, "best": best, "candidates": rows, "comparisons": pairs})


def test_the_chosen_one_comes_first_and_rows_go_from_better_to_worse() -> None:
    pairs = [pair("b", "a", -0.02), pair("c", "a", -0.2), pair("d", "a", -0.005)]
    pairs += [pair("a", "d", 0.005), pair("b", "d", 0.0), pair("c", "d", 0.03)]
    chosen, best = comparisons(run_of("d", "a", pairs))
    assert (chosen["against"], chosen["role"], best["against"], best["role"]) == ("d", "chosen", "a", "best")
    assert [(row["candidate"], row["effect"]) for row in chosen["rows"]] == [
        ("c", "better"),
        ("a", "even"),
        ("b", "even"),
    ]
    assert chosen["sentence"] == "Of 3 others, 1 gets more right and 2 cannot be told apart from it."
    assert best["sentence"] == "Of 3 others, 2 get fewer right and 1 cannot be told apart from it."
    assert {row["p"] for row in best["rows"]} == {"0.040"}


def test_one_group_where_the_best_is_chosen_and_none_without_others() -> None:
    run = run_of("a", "a", [pair(name, "a", -0.1) for name in "bcd"])
    assert [group["role"] for group in comparisons(run)] == ["chosen"]
    assert comparisons(replace(run, selection={**run.selection, "comparisons": []})) == []
    nothing = replace(run, selection={**run.selection, "chosen": "", "best": ""})
    assert comparisons(nothing) == []


def test_if_none_passes_all_are_compared_with_the_best() -> None:
    run = run_of("", "b", [pair("a", "b", -0.1)])
    (group,) = comparisons(run)
    assert group["role"] == "best"
    assert group["sentence"] == "The other gets fewer right."


def test_an_axis_holds_every_interval_and_zero() -> None:
    found = axis([difference(-0.05), difference(-0.11)])
    assert found["low"] < -0.12
    assert found["high"] > 0
    assert [tick["text"] for tick in found["ticks"]] == [f"{MINUS}10", f"{MINUS}5", "0"]
    alike = axis([difference(0, 0)])
    assert alike["low"] < 0 < alike["high"]
    assert "0" in [tick["text"] for tick in alike["ticks"]]


@pytest.mark.parametrize(("value", "text"), [(0.0123, "+1.2"), (-0.3, f"{MINUS}30.0"), (0.0, "0.0"), (-0.0002, "0.0")])
def test_points_have_a_sign(value: float, text: str) -> None:
    assert points(value) == text


def test_an_effect_is_what_the_whole_interval_says() -> None:
    assert [effect(difference(v)) for v in (0.02, -0.02, 0.005, 0.01)] == ["better", "worse", "even", "even"]


def test_words_and_p_values() -> None:
    assert [p_text(p) for p in (0.0004, 0.0321, 0.25, 1.0)] == ["<0.001", "0.032", "0.25", "1.00"]
    assert sentence(["better", "worse", "worse", "even"]) == (
        "Of 4 others, 1 gets more right, 2 get fewer right and 1 cannot be told apart from it."
    )
    assert sentence(["even"] * 4) == "None of the 4 others can be told apart from it."
    assert sentence(["worse"] * 2) == "Both others get fewer right."
