"""What a person sees while a pipeline runs: the steps done, the step at work, how far it is, the cost so far.

On a terminal the running steps are redrawn in place; elsewhere (a pipe, CI) a line is printed when a step
starts, when it ends, and every ``LINE_SECONDS`` in between.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from undercut import costs
from undercut.errors import ConfigurationError
from undercut.wording import duration

LINE_SECONDS = 10.0
BAR_WIDTH = 24
NAME_WIDTH = 30
FIGURES_WIDTH = 21
MARKS = {"+": "✓", "x": "✗", "=": "↺"}


@dataclass(kw_only=True)
class Running:
    """A step at work."""

    name: str
    started: float
    done: float = 0.0
    total: float = 0.0
    message: str = ""
    said: str = ""
    printed: float = 0.0
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class Display:
    """Takes a run's events and shows them; used as a context.

    Args:
        console: where to show.
        book: the price book, for the cost so far.
        steps: how many steps the run takes, as far as is known before it.
    """

    def __init__(self, console: Console, book: costs.PriceBook, steps: int) -> None:
        self.console, self._book, self._steps = console, book, steps
        self._running: dict[str, Running] = {}
        self._ended, self.reused, self.usd = 0, 0, 0.0
        self._per_second = costs.available_cores() * book.usd_per_hour(costs.CPU_CORE) / 3600
        self._started, self._lock = time.time(), threading.RLock()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> "Display":
        """Start to redraw, if this is a terminal."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to redraw."""
        if self.console.is_terminal:
            self._live.stop()

    def handle(self, event: Mapping[str, Any]) -> None:
        """Show one event of :mod:`undercut.events`."""
        with self._lock:
            match event["type"]:
                case "started":
                    self._start(event)
                case "progress":
                    self._progress(event)
                case "message":
                    self._message(event)
                case "finished" | "failed":
                    self._end(event)

    def cached(self, step: str, detail: str) -> None:
        """Show a step that was taken from the cache."""
        with self._lock:
            self._ended += 1
            self.reused += 1
            self._line("=", "cyan", _name(step, detail), "", "reused from the cache: same inputs, same code")

    def cost_usd(self) -> float:
        """Return what the run has cost so far: steps ended, and the time of those at work."""
        now = time.time()
        return self.usd + sum(now - r.started for r in list(self._running.values())) * self._per_second

    def _start(self, event: Mapping[str, Any]) -> None:
        running = Running(name=_name(event["step"], event["detail"]), started=event["time"], printed=time.time())
        self._running[event["task"]] = running
        if not self.console.is_terminal:
            self.console.print(Text(f"  {self._position()} {running.name} …"))

    def _progress(self, event: Mapping[str, Any]) -> None:
        running = self._running.get(event["task"])
        if running is None:
            return
        running.done, running.total, running.message = event["done"], event["total"], event["message"]
        self._now_and_then(running)

    def _message(self, event: Mapping[str, Any]) -> None:
        running = self._running.get(event["task"])
        if running is None:
            return
        running.said = event["message"]
        self._now_and_then(running)

    def _now_and_then(self, running: Running) -> None:
        if self.console.is_terminal or time.time() - running.printed < LINE_SECONDS:
            return
        running.printed = time.time()
        share = f"{running.done / running.total:.0%} " if running.total else ""
        what = " - ".join(part for part in (running.message, running.said) if part)
        so_far = f"{duration(time.time() - self._started)}, ${self.cost_usd():.4f} so far"
        self.console.print(Text(f"      {running.name}: {share}{what} ({so_far})"), soft_wrap=True)

    def _end(self, event: Mapping[str, Any]) -> None:
        running = self._running.pop(event["task"], None)
        self._ended += 1
        seconds = event["use"]["seconds"]
        cost = self._cost(event["use"])
        said = event["error"] if event["type"] == "failed" else running.said if running else ""
        mark, style = ("x", "red") if event["type"] == "failed" else ("+", "green")
        self._line(mark, style, _name(event["step"], event["detail"]), f"{duration(seconds):>12}  ${cost:.4f}", said)

    def _cost(self, use: costs.LedgerEntry) -> float:
        try:
            cost = self._book.cost_usd(use)
        except ConfigurationError as error:  # an accelerator that the price book does not list
            self.console.print(Text(f"      not priced: {error}", style="yellow"))
            return 0.0
        self.usd += cost
        return cost

    def _position(self) -> str:
        return f"[{min(self._ended + 1, self._steps)}/{self._steps}]"

    def _line(self, mark: str, style: str, name: str, figures: str, said: str) -> None:
        """Print what became of a step; on a terminal in one line, elsewhere nothing is cut off."""
        line = Text.assemble((MARKS[mark], style), f" {name:<{NAME_WIDTH}} ", (f"{figures:<{FIGURES_WIDTH}}", "dim"))
        line.append(f" {said}".rstrip(), style="dim")
        if self.console.is_terminal:
            self.console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self.console.print(line, soft_wrap=True)

    def _render(self) -> Group:
        """Return what is redrawn; rich asks for it while it holds its own lock.

        Whoever prints has this object's lock and waits for rich's: taking ours here would stop both for ever.
        """
        rows = [self._running_row(running) for running in list(self._running.values())]
        share = min(1.0, self._ended / max(1, self._steps))
        line = Table.grid(padding=(0, 1))
        elapsed = f"{duration(time.time() - self._started)}, ${self.cost_usd():.4f} so far"
        line.add_row(
            Text(" "),
            Text(f"step {min(self._ended + 1, self._steps)} of {self._steps}".ljust(NAME_WIDTH)),
            ProgressBar(total=1, completed=share, width=BAR_WIDTH),
            Text(elapsed, style="bold"),
        )
        return Group(*rows, line)

    def _running_row(self, running: Running) -> Table:
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=running.total or None, completed=running.done, width=BAR_WIDTH, pulse=not running.total)
        elapsed = duration(time.time() - running.started)
        what = running.message or running.said
        row.add_row(
            running.spinner, Text(running.name.ljust(NAME_WIDTH)), bar, Text(f"{elapsed}  {what}", overflow="ellipsis")
        )
        return row


def _name(step: str, detail: str) -> str:
    return f"{step} {detail}".strip()
