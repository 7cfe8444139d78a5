import subprocess
import sys
import time

import pytest
from undercut.costs import Stopwatch, merge, parse_price_book, peak_memory_bytes
from undercut.errors import ConfigurationError

BOOK = {
    "devices": {"cpu-core": {"usd_per_hour": 0.05}, "nvidia-h200": {"usd_per_hour": 3.5}},
    "hosted": [{"name": "Big", "input": 0.1, "output": 0.4, "date": "2026-11-01", "source": "list price"}],
}


def test_a_step_costs_what_it_holds() -> None:
    book = parse_price_book(BOOK)
    entry = Stopwatch("finetune").entry() | {"seconds": 1800.0, "cores": 2, "gpus": 0}
    assert book.cost_usd(entry) == pytest.approx(0.05)  # type: ignore[arg-type]
    on_gpu = entry | {"gpus": 1, "accelerator": "nvidia-h200"}
    assert book.cost_usd(on_gpu) == pytest.approx(0.05 + 1.75)  # type: ignore[arg-type]


def test_stopwatch_measures_time_and_memory() -> None:
    watch = Stopwatch("a")
    sum(range(3_000_000))
    time.sleep(0.05)
    entry = watch.entry(output_bytes=7)
    assert entry["seconds"] > entry["cpu_seconds"] > 0.01
    assert entry["peak_memory_bytes"] > 10_000_000
    assert entry["output_bytes"] == 7


def test_merge_counts_a_shared_step_once() -> None:
    first, second = Stopwatch("a").entry(), Stopwatch("b", "x").entry()
    second["started"] = first["started"] + 1
    assert merge([[first, second], [first]]) == [first, second]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"devices": {"gpu": {"usd_per_hour": 1}}}, "prices.devices"),
        ({"devices": {"cpu-core": {"usd_per_hour": "cheap"}}}, "prices.devices.cpu-core.usd_per_hour"),
        ({"devices": {"cpu-core": {"usd_per_hour": -1}}}, "prices.devices.cpu-core.usd_per_hour"),
        ({"devices": []}, "prices.devices"),
        ({"devices": {"cpu-core": 0.05}}, "prices.devices.cpu-core"),
        (
            {"hosted": [{"name": "Big", "input": -1, "output": 1, "date": "x", "source": "x"}]},
            r"prices.hosted\[0\].input",
        ),
        ({"hosted": [{"name": "Big", "input": 1, "output": 1, "source": "x"}]}, r"prices.hosted\[0\].date"),
    ],
)
def test_a_wrong_price_book_is_refused(change: dict, field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: got"):
        parse_price_book(BOOK | change)


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ConfigurationError, match="nvidia-b300"):
        parse_price_book(BOOK).usd_per_hour("nvidia-b300")


def test_a_price_book_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^prices: got \[\]; allowed: a mapping"):
        parse_price_book([])  # type: ignore[arg-type]


def test_peak_memory_is_the_programs_own_and_not_that_of_the_one_that_started_it() -> None:
    """Linux hands ``ru_maxrss`` on from a process to the program that it becomes."""
    ballast = bytearray(500_000_000)
    assert peak_memory_bytes() > len(ballast)
    code = "from undercut.costs import peak_memory_bytes; print(peak_memory_bytes())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5e6 < int(found.stdout) < 200e6
