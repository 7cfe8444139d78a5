import pytest
from undercut.wording import duration, milliseconds, money, percent, quantity, size, times


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0000001, "$0.00000010"),
        (0.000998, "$0.0010"),
        (0.0022, "$0.0022"),
        (0.0123, "$0.0123"),
        (0.5, "$0.50"),
        (1.0, "$1.00"),
        (1234.5, "$1,234.50"),
    ],
)
def test_money(usd: float, text: str) -> None:
    assert money(usd) == text


def test_ratios_counts_and_shares() -> None:
    assert [times(r) for r in (4.31, 61.2, 56780)] == ["4.3 times", "61 times", "56,780 times"]
    assert [quantity(n) for n in (3, 8.42, 6200.4, 4.2e6, 6.1e10)] == ["3", "8.4", "6,200", "4.2 million", "61 billion"]
    assert [percent(s) for s in (0, 0.004, 0.0999, 0.12, 1)] == ["0%", "0.4%", "10%", "12%", "100%"]
    assert [percent(s) for s in (0.97, 0.997, 0.99996)] == ["97%", "99.7%", "over 99.9%"]


def test_spans_of_time() -> None:
    assert [duration(s) for s in (4.21, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]
    assert [milliseconds(m) for m in (0.123, 0.999, 4.31, 43.2, 1234)] == [
        "0.12 ms",
        "1.0 ms",
        "4.3 ms",
        "43 ms",
        "1.2 s",
    ]


def test_sizes() -> None:
    assert [size(b) for b in (0, 950_000, 22_800_000, 1_300_000_000)] == ["0 B", "950 kB", "22.8 MB", "1.3 GB"]
