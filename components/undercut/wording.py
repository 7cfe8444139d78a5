"""How figures are written for people: money, ratios, durations, sizes."""


def money(usd: float) -> str:
    """Return an amount: two significant digits under a cent, three under a dollar, cents above."""
    if 0 < abs(usd) < 0.01:
        return f"${usd:.{1 - int(f'{usd:.1e}'.partition('e')[2])}f}"
    if abs(usd) >= 1:
        return f"${usd:,.2f}"
    whole, _, decimals = f"{usd:.3g}".partition(".")
    return f"${whole}.{decimals:0<2}"


def times(ratio: float) -> str:
    """Return a ratio as people say it: ``4.3 times``, ``61 times``."""
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def duration(seconds: float) -> str:
    """Return seconds as ``4.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return bytes as ``950 kB`` or ``22.8 MB``."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1)):
        if count < 1000:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(value: float) -> str:
    """Return a latency: ``0.12 ms``, ``4.3 ms``, ``43 ms``, ``1.2 s``."""
    if value >= 999.5:
        return f"{_two_digits(value / 1000)} s"
    return f"{value:.2f} ms" if value < 0.995 else f"{_two_digits(value)} ms"


def quantity(number: float) -> str:
    """Return a count or a rate: ``8.4``, ``6,200``, ``4.2 million``, ``61 billion``."""
    for limit, word in ((1e9, "billion"), (1e6, "million")):
        if number >= limit:
            return f"{_two_digits(number / limit)} {word}"
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def percent(share: float) -> str:
    """Return a share of one: ``0.4%``, ``12%``, ``99.7%``; ``100%`` only for all."""
    if 0.9995 <= share < 1:
        return "over 99.9%"
    return f"{share:.1%}" if 0 < share < 0.0995 or 0.99 < share < 1 else f"{share:.0%}"


def _two_digits(number: float) -> str:
    return f"{number:.1f}" if number < 9.95 else f"{number:,.0f}"
