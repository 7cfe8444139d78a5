"""What a run shows on a terminal, whose lines are redrawn by a thread of rich's."""

import io
import threading
from pathlib import Path

import yaml
from rich.console import Console
from undercut import costs
from undercut.cli.display import Display

PRICES = Path(__file__).parents[2] / "pipelines" / "prices.yaml"
TASK = {"task": "tune-1", "step": "tune", "detail": "", "time": 0.0}


def test_a_step_may_end_while_the_terminal_is_redrawn() -> None:
    """The redrawing thread has rich's lock and asks what to draw; the printing one has ours and waits for rich's."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, force_interactive=True, width=100)
    display = Display(console, costs.parse_price_book(yaml.safe_load(PRICES.read_text("utf-8"))), steps=2)
    use = costs.Stopwatch("tune", "").entry()
    with display:
        display.handle({**TASK, "type": "started"})
        ended = threading.Thread(target=display.handle, args=({**TASK, "type": "finished", "use": use},), daemon=True)
        redrawn = threading.Thread(target=display._render, daemon=True)
        with display._live._lock:
            ended.start()
            while display._lock.acquire(blocking=False):  # until the printing thread has it
                display._lock.release()
            redrawn.start()
            redrawn.join(20)
            assert not redrawn.is_alive(), "the two threads wait for each other"
        ended.join(20)
        assert not ended.is_alive()
    assert "tune" in shown.getvalue()
