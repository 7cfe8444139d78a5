"""Cron expressions and intervals as KFP takes them."""

import pytest
from undercut.cluster.cron import parse_cron, parse_interval
from undercut.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("0 0 2 * * *", "0 0 2 * * *"),
        ("0 2 * * *", "0 0 2 * * *"),
        ("  0  */15 8-18 ? JAN-JUN mon,wed,FRI ", "0 */15 8-18 ? JAN-JUN mon,wed,FRI"),
        ("30 5/10 0 1,15 * 0-6", "30 5/10 0 1,15 * 0-6"),
        ("@daily", "@daily"),
    ],
)
def test_what_kfp_takes(given: str, taken: str) -> None:
    assert parse_cron(given) == taken


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "six fields"),
        ("0 0 0 2 * * *", "six fields"),
        ("@reboot", "@daily"),
        ("60 0 2 * * *", "second: got '60'; allowed: 0 to 59"),
        ("0 0 2 0 * *", "day of the month"),
        ("0 0 2 * 13 *", "month"),
        ("0 0 2 * * 7", "day of the week: got '7'; allowed: 0 to 6 or sun to sat"),
        ("0 0 18-8 * * *", "from the smaller to the greater"),
        ("0 */0 2 * * *", "at least 1"),
        ("0 *-5 2 * * *", "a range of two values"),
        ("0 0 L * * *", "hour"),
        ("0 0 2 * * mon#1", "day of the week"),
        ("0 0 0 31 2 *", "a day that comes"),
        ("0 0 0 30,31 feb ?", "a day that comes"),
        ("0 0 0 31 4-6/2,9,11 *", "a day that comes"),
    ],
)
def test_what_it_does_not(given: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_cron(given)
    assert words in str(refused.value)


def test_intervals() -> None:
    assert [parse_interval(t) for t in ("90s", "30m", "24h", "7d", "1h30m")] == [90, 1800, 86400, 604800, 5400]
    for wrong in ("", "24", "1.5h", "-1h", "0s", "h", "1h 30m"):
        with pytest.raises(ConfigurationError):
            parse_interval(wrong)
