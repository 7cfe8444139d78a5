"""What monitor saw and decided, at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_monitoring(found: Mapping[str, Any], console: Console) -> None:
    """Print the tests, if there were any, and the decision with its reason."""
    console.print()
    if found["tests"]:
        console.print(tests_table(found))
    console.print(Text(found["reason"], style="bold"), soft_wrap=True)
    if found["changed"]:
        console.print(Text(f"Trained: {found['start']['reason']}."), soft_wrap=True)
    else:
        console.print(Text("Nothing to do: nothing was trained."), soft_wrap=True)


def show_promotion(deployment: Mapping[str, Any], console: Console) -> None:
    """Print whether the new version took the champion's place, and why."""
    verb = "promoted" if deployment["champion"] else "the champion stays"
    console.print(
        Text(f"Version {deployment['version']}: {verb}. {deployment['reason']}", style="bold"), soft_wrap=True
    )


def tests_table(found: Mapping[str, Any]) -> Table:
    """Return the table of drift tests."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("drift test", "before", "now", "p-value", "threshold", "verdict"):
        table.add_column(name, justify="left" if name in ("drift test", "verdict") else "right", no_wrap=True)
    for test in found["tests"]:
        before, now = ("-" if test[k] is None else f"{test[k]:.3f}" for k in ("before", "now"))
        name = f"{test['test']} ({test['detail']})" if test["test"].endswith(("labels", "answers")) else test["test"]
        style = "bold yellow" if test["alarm"] else "dim"
        verdict = "drift" if test["alarm"] else "no drift seen"
        figures = (before, now, f"{test['p_value']:.2g}", f"{test['threshold']:.2g}")
        table.add_row(name, *figures, verdict, style=style)
    return table
