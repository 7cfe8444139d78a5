from typing import Any

import pytest
from undercut.bar import Bar
from undercut.costs import HostedPrice
from undercut.intervals import Interval
from undercut.select.choose import (
    Contender,
    choose,
    hosted_comparison,
    pareto,
    sentence,
    usd_per_million_requests,
)
from undercut.wording import money

BAR = Bar(minimum=0.85, maximum_drop=0.02)


def contender(name: str, price: float, value: float = 0.9, **changes: Any) -> Contender:
    """Return a candidate whose interval reaches 0.02 to each side."""
    settings = {"latency_ms": 1.0, "bytes": 1000, "lost": ""} | changes
    metric = Interval(value=value, low=value - 0.02, high=value + 0.02)
    return Contender(name=name, metric=metric, usd_per_million_requests=price, **settings)


def verdicts(contenders: list[Contender], bar: Bar = BAR) -> dict[str, tuple[str, str]]:
    choose(contenders, bar)
    return {c.name: (c.verdict, c.reason) for c in contenders}


def test_the_cheapest_that_passes_is_chosen_and_the_others_hear_why() -> None:
    found = verdicts([contender("a", 4.3), contender("b", 1.0), contender("c", 61.4), contender("d", 1.05)])
    assert found == {
        "a": ("passed", "passed, but costs 4.3 times as much as b"),
        "b": ("chosen", "the cheapest that clears the bar"),
        "c": ("passed", "passed, but costs 61 times as much as b"),
        "d": ("passed", "passed, but costs 5.0 % more than b"),
    }


def test_the_lower_end_counts_and_not_the_point() -> None:
    low, at, over = contender("low", 1.0, 0.869), contender("at", 2.0, 0.875), contender("over", 3.0, 0.88)
    at.metric = Interval(value=0.875, low=0.85, high=0.9)
    found = verdicts([low, at, over])
    assert found["low"] == ("missed", "missed the bar: the lower end of accuracy is 0.849, 0.1 points under 0.850")
    assert found["at"][0] == "chosen"
    assert found["over"][0] == "passed"


def test_the_drop_counts_from_the_best_point_even_if_the_best_is_too_slow() -> None:
    bar = Bar(minimum=0.8, maximum_drop=0.02, maximum_latency_ms=5)
    found = verdicts(
        [contender("best", 9.0, 0.95, latency_ms=7.25), contender("near", 2.0, 0.93), contender("far", 1.0, 0.92)], bar
    )
    assert found["best"] == ("missed", "missed the bar: one request takes 7.2 ms, 5 ms are allowed")
    assert found["near"][0] == "chosen"
    assert found["far"] == ("missed", "missed the bar: accuracy is 3.0 points under the best, 2.0 are allowed")


def test_a_lost_candidate_is_no_measure_for_the_others() -> None:
    lost = contender("lost", float("inf"), 1.0, lost="it answers differently")
    found = verdicts([lost, contender("a", 1.0)])
    assert found == {"lost": ("lost", "it answers differently"), "a": ("chosen", "the cheapest that clears the bar")}


def test_prices_within_a_hundredth_are_a_tie_for_latency_then_size() -> None:
    cheapest = contender("cheapest", 1.0, latency_ms=3.0)
    fast, small = contender("fast", 1.009, latency_ms=1.0), contender("small", 1.005, latency_ms=1.0, bytes=900)
    found = verdicts([cheapest, fast, small])
    assert found["small"][0] == "chosen"
    assert found["fast"] == ("passed", "passed at the same price as small, but is larger")
    assert found["cheapest"] == (
        "passed",
        "passed at the same price as small, but answers in 3 ms instead of 1 ms",
    )


def test_outside_the_tie_speed_does_not_help() -> None:
    """It is within 1 % of the chosen one, not of the cheapest: the reason is its price, not its speed or size."""
    found = verdicts(
        [
            contender("cheapest", 1.0, latency_ms=3.0),
            contender("chosen", 1.009, latency_ms=1.0),
            contender("fastest", 1.013, latency_ms=0.5, bytes=10),
        ]
    )
    assert found["chosen"][0] == "chosen"
    assert found["fastest"] == ("passed", "passed, but costs 0.4 % more than chosen")


def test_equal_in_everything_the_first_is_chosen() -> None:
    found = verdicts([contender("first", 1.0), contender("second", 1.0)])
    assert found["first"][0] == "chosen"
    assert (
        found["second"][1] == "passed at the same price as first, as fast and as large, and stands after it in the list"
    )


def test_a_machine_that_costs_nothing_is_decided_by_latency() -> None:
    slow, fast = contender("finetuned/as-is", 0.0, latency_ms=9.0), contender("fast", 0.0, latency_ms=1.0)
    assert choose([slow, fast], BAR) is fast
    assert slow.reason == "passed at the same price as fast, but answers in 9 ms instead of 1 ms"
    assert sentence(fast, [slow, fast], BAR, "finetuned/as-is").endswith(f"at {money(0.0)} per million requests.")


def test_none_passes_and_each_hears_by_how_much() -> None:
    bar = Bar(metric="macro_f1", minimum=0.95, maximum_drop=0.01, maximum_latency_ms=1)
    contenders = [contender("a", 1.0, 0.93, latency_ms=0.5), contender("b", 2.0, 0.9, latency_ms=3.0)]
    assert choose(contenders, bar) is None
    assert contenders[0].reason == "missed the bar: the lower end of macro-F1 is 0.910, 4.0 points under 0.950"
    assert contenders[1].reason == (
        "missed the bar: the lower end of macro-F1 is 0.880, 7.0 points under 0.950; "
        "macro-F1 is 3.0 points under the best, 1.0 are allowed; one request takes 3.0 ms, 1 ms are allowed"
    )
    assert sentence(None, contenders, bar, "a") == (
        "No candidate clears the bar; the nearest, a, misses it: "
        "the lower end of macro-F1 is 0.910, 4.0 points under 0.950."
    )


def test_all_lost_is_said() -> None:
    contenders = [contender("a", float("inf"), lost="x")]
    assert choose(contenders, BAR) is None
    assert sentence(None, contenders, BAR, "a") == "No candidate could be made; see each one's reason."


def test_the_sentence_compares_with_the_reference_only_where_it_is_cheaper() -> None:
    chosen, reference = contender("linear/as-is", 0.5), contender("finetuned/as-is", 12.5)
    start = f"linear/as-is: accuracy 0.900 (0.880 to 0.920) clears 0.850, at {money(0.5)} per million requests"
    assert sentence(chosen, [reference, chosen], BAR, "finetuned/as-is") == (
        f"{start}, 25 times cheaper than the fine-tuned model as it is."
    )
    assert sentence(chosen, [chosen], BAR, "finetuned/as-is") == f"{start}."
    dear = contender("finetuned/as-is", 0.4, 0.8)
    assert choose([dear, chosen], BAR) is chosen
    assert sentence(chosen, [dear, chosen], BAR, "finetuned/as-is") == f"{start}."


def test_the_front_is_what_no_other_beats_in_both() -> None:
    contenders = [
        contender("cheap", 1.0, 0.8),
        contender("good", 5.0, 0.95),
        contender("between", 3.0, 0.9),
        contender("beaten", 4.0, 0.85),
        contender("dearer", 5.5, 0.95),
        contender("twin", 1.0, 0.8),
        contender("lost", float("inf"), 0.0, lost="x"),
    ]
    assert pareto(contenders) == {"cheap", "twin", "between", "good"}


def test_the_price_of_a_million_requests() -> None:
    """36 cents an hour is a hundredth of a cent a second; at 50 requests a second 2 dollars a million."""
    assert usd_per_million_requests(0.36, 50) == pytest.approx(2.0)
    assert usd_per_million_requests(0.0, 50) == 0.0


def test_hosted_prices_and_break_even() -> None:
    """62 tokens in at 0.10 and 4 out at 0.40 are 7.80 a million requests; 7.70 less than 0.10."""
    big = HostedPrice(
        name="Big", usd_per_million_input_tokens=0.1, usd_per_million_output_tokens=0.4, date="2026-11-01", source="x"
    )
    (row,) = hosted_comparison([big], 62, 4, own_price=0.1, run_cost=0.77)
    assert row["usd_per_million_requests"] == pytest.approx(7.8)
    assert row["usd_per_million_tokens"] == pytest.approx(7.8 / 66)
    assert row["break_even_requests"] == pytest.approx(100_000)
    assert (row["name"], row["date"], row["source"]) == ("Big", "2026-11-01", "x")
    for own in (8.0, None):
        (row,) = hosted_comparison([big], 62, 4, own_price=own, run_cost=0.77)
        assert row["break_even_requests"] is None
