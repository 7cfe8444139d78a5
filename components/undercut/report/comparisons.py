"""Candidates against each other on the same rows: first with the chosen one, then with the best."""

from collections.abc import Mapping, Sequence
from typing import Any

from undercut.report.differences import axis, effect
from undercut.report.reading import Run

# Of one, and of several.
WORDS = {
    "better": ("gets more right", "get more right"),
    "worse": ("gets fewer right", "get fewer right"),
    "even": ("cannot be told apart from it", "cannot be told apart from it"),
}


def comparisons(run: Run) -> list[dict[str, Any]]:
    """Return a group for each candidate that others are compared with; none if there is nobody to compare.

    Each has ``against``, its ``role`` (chosen or best), ``n`` rows, the ``rows`` from better to worse, the
    ``axis`` that they are drawn on and a ``sentence``.
    """
    selection = run.selection
    groups = []
    for against in dict.fromkeys(name for name in (selection["chosen"], selection["best"]) if name):
        found = [c for c in selection["comparisons"] if c["against"] == against]
        if not found:
            continue
        rows = [_row(run, c) for c in sorted(found, key=lambda c: -float(c["difference"]["value"]))]
        groups.append(
            {
                "against": against,
                "role": "chosen" if against == selection["chosen"] else "best",
                "n": found[0]["n"],
                "rows": rows,
                "axis": axis([c["difference"] for c in found]),
                "sentence": sentence([row["effect"] for row in rows]),
            }
        )
    return groups


def _row(run: Run, comparison: Mapping[str, Any]) -> dict[str, Any]:
    candidate = run.named(comparison["candidate"])
    assert candidate is not None, comparison
    return {
        **comparison,
        "verdict": candidate["verdict"],
        "effect": effect(comparison["difference"]),
        "p": p_text(comparison["p_value"]),
    }


def p_text(p_value: float) -> str:
    """Return a p-value with as many decimals as matter."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def sentence(effects: Sequence[str]) -> str:
    """Say how many of the others are better, worse, or neither for certain."""
    found = [(kind, number) for kind in WORDS if (number := effects.count(kind))]
    count = len(effects)
    if count == 1:
        return f"The other {WORDS[effects[0]][0]}."
    if len(found) == 1 and effects[0] == "even":
        return f"None of the {count} others can be told apart from it."
    if len(found) == 1:
        return f"{'Both' if count == 2 else f'All {count}'} others {WORDS[effects[0]][1]}."
    parts = [f"{number} {WORDS[kind][number > 1]}" for kind, number in found]
    return f"Of {count} others, {', '.join(parts[:-1])} and {parts[-1]}."
