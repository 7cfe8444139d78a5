"""What a run's end says of monitor."""

from typing import Any

from rich.console import Console
from undercut.cli.monitoring import show_monitoring, show_promotion

SEEN = {
    "changed": True,
    "reason": "40 of 440 labelled rows are new. Drift: labels of refund 0.330 to 0.700 (p 0.0005).",
    "start": {"reason": "goes on from the fine-tuned model of version 1"},
    "tests": [
        {
            "test": "labels",
            "before": 0.33,
            "now": 0.7,
            "p_value": 0.0005,
            "threshold": 0.002,
            "alarm": True,
            "detail": "refund",
        },
        {"test": "text", "before": None, "now": None, "p_value": 0.2, "threshold": 0.01, "alarm": False, "detail": ""},
    ],
}


def shown(content: dict[str, Any], show: Any = show_monitoring) -> str:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        show(content, console)
    return capture.get()


def test_each_test_with_its_threshold_and_the_decision() -> None:
    lines = shown(SEEN).splitlines()
    (labels,) = (line for line in lines if "labels (refund)" in line)
    assert labels.split() == ["labels", "(refund)", "0.330", "0.700", "0.0005", "0.002", "drift"]
    (text,) = (line for line in lines if line.strip().startswith("text"))
    assert text.split() == ["text", "-", "-", "0.2", "0.01", "no", "drift", "seen"]
    assert "Trained: goes on from the fine-tuned model of version 1." in lines


def test_a_run_with_nothing_to_do_says_why() -> None:
    found = shown({"changed": False, "reason": "Nothing changed.", "start": None, "tests": []})
    assert found.splitlines() == ["", "Nothing changed.", "Nothing to do: nothing was trained."]


def test_the_promotion_or_why_not() -> None:
    kept = {"champion": False, "version": "3", "reason": "Against version 1: not shown to be within 0.01 of it."}
    assert shown(kept, show_promotion).startswith("Version 3: the champion stays. Against version 1: not shown")
    assert shown({**kept, "champion": True}, show_promotion).startswith("Version 3: promoted. ")
