"""What is said beside a verdict: in what the two models, or the rows that they were compared on, differ."""

from collections.abc import Sequence


def left_out_note(rows: int) -> str:
    """Say how many test rows were not compared, and why; empty if all were."""
    return f" Left out: {rows:,} test row{'s' * (rows > 1)} that the champion learnt from." if rows else ""


def label_note(challenger: Sequence[str], champion: Sequence[str]) -> str:
    """Say how the label sets differ and what follows; empty if they do not."""
    new, gone = sorted(set(challenger) - set(champion)), sorted(set(champion) - set(challenger))
    if not new and not gone:
        return ""
    parts = [f"{verb} {', '.join(names)}" for verb, names in (("adds", new), ("drops", gone)) if names]
    rule = "a test row whose label a model does not know counts as its mistake"
    return f" The label sets differ: the challenger {' and '.join(parts)}; {rule}."
