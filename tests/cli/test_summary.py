"""The table of candidates that a run ends with."""

import io
from typing import Any

import pytest
from rich.console import Console
from undercut.cli.summary import candidates_table


def candidate(name: str, accuracy: float, usd: float, verdict: str) -> dict[str, Any]:
    return {
        "candidate": name,
        "metric": {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05},
        "latency_ms": 1000 * usd,
        "requests_per_second": 1 / usd,
        "bytes": 24_200_000,
        "usd_per_million_requests": usd,
        "usd_per_million_tokens": usd / 12,
        "verdict": verdict,
    }


SELECTION = {
    "bar": {"metric": "accuracy", "confidence": 0.95},
    "traffic": "online",
    "candidates": [
        candidate("linear-teacher/as-is", 0.524, 0.000054, "chosen"),
        candidate("finetuned/as-is", 0.643, 0.0065, "passed"),
    ],
}


@pytest.mark.parametrize(("width", "sizes"), [(80, False), (100, False), (120, True), (160, True)])
def test_nothing_is_cut_off(width: int, sizes: bool) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(candidates_table(SELECTION, width))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert "linear-teacher/as-is" in shown
    assert "0.643 (0.593-0.693)" in shown
    assert ("24.2 MB" in shown) is sizes
