"""Schedules in KFP's form: a cron expression of six fields, seconds first, or an interval in seconds.

KFP reads them with https://pkg.go.dev/github.com/robfig/cron (version 1), in the cluster's time zone.
"""

import re
from collections.abc import Collection

from undercut.errors import ConfigurationError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Field: least, greatest, names of values from the least on.
FIELDS = {
    "second": (0, 59, ()),
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of the month": (1, 31, ()),
    "month": (1, 12, MONTHS),
    "day of the week": (0, 6, DAYS),
}
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month
DAY_OF_WEEK = 5  # its place
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
SHAPE = "six fields: second minute hour day-of-month month day-of-week, such as '0 0 2 * * *' (every day at 2)"
_RANGE = re.compile(r"(?P<low>\*|\?|\w+)(-(?P<high>\w+))?(/(?P<step>\d+))?")


def parse_cron(expression: str) -> str:
    """Return a cron expression as KFP takes it; five fields, as in crontab, get a 0 for the seconds.

    Raises:
        ConfigurationError: it is none.
    """
    if expression.strip() in DESCRIPTORS:
        return expression.strip()
    parts = expression.split()
    if len(parts) == len(FIELDS) - 1:
        parts.insert(0, "0")
    if len(parts) != len(FIELDS):
        raise ConfigurationError("cron", expression, f"{SHAPE}, or {', '.join(DESCRIPTORS)}")
    values = {
        name: set().union(*(_values(expression, name, item, *bounds) for item in part.split(",")))
        for (name, bounds), part in zip(FIELDS.items(), parts, strict=True)
    }
    days = max(LONGEST[month - 1] for month in values["month"])
    # With a day of the week, either of the two is enough.
    if any(item[0] in "*?" for item in parts[DAY_OF_WEEK].split(",")) and min(values["day of the month"]) > days:
        remedy = "KFP's controller would look for the next one without end, and start nobody's runs any more"
        raise ConfigurationError("cron", expression, "a day that comes", remedy)
    return " ".join(parts)


def parse_interval(text: str) -> int:
    """Return an interval in seconds: ``90s``, ``30m``, ``24h``, ``7d``, ``1h30m``.

    Raises:
        ConfigurationError: it is none, or none that KFP takes.
    """
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise ConfigurationError("every", text, "a number and s, m, h or d, such as 30m, 24h or 7d")
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if seconds < 1:
        raise ConfigurationError("every", text, "at least 1s")
    return seconds


def _values(
    expression: str, name: str, item: str, least: int, greatest: int, names: tuple[str, ...]
) -> Collection[int]:
    """Return the values that one item of a field's list stands for."""
    allowed = f"{least} to {greatest}" + (f" or {names[0]} to {names[-1]}" if names else "")
    match = _RANGE.fullmatch(item)
    if match is None:
        raise ConfigurationError(f"cron: {name}", item, f"{allowed}, *, ?, a range 1-5, a step */2, a list 1,3")
    bounds = [
        _number(expression, name, value, least, greatest, names, allowed)
        for value in (match["low"], match["high"])
        if value not in (None, "*", "?")
    ]
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        raise ConfigurationError(f"cron: {name}", item, "a range from the smaller to the greater")
    if match["high"] and match["low"] in ("*", "?"):
        raise ConfigurationError(f"cron: {name}", item, f"a range of two values, {allowed}")
    if match["step"] is not None and int(match["step"]) == 0:
        raise ConfigurationError(f"cron: {name}", item, "a step of at least 1")
    first = bounds[0] if bounds else least
    last = bounds[-1] if len(bounds) == 2 or (bounds and match["step"] is None) else greatest
    return range(first, last + 1, int(match["step"] or 1))


def _number(
    expression: str, name: str, value: str, least: int, greatest: int, names: tuple[str, ...], allowed: str
) -> int:
    if value.lower() in names:
        return least + names.index(value.lower())
    if not value.isdigit() or not least <= int(value) <= greatest:
        raise ConfigurationError(f"cron: {name}", value, allowed, f"In '{expression}'")
    return int(value)
