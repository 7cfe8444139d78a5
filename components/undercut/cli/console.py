"""Where commands print to."""

import os
import sys

from rich.console import Console


def standard_output(width: int) -> Console:
    """Return a console on today's standard output: while KFP runs, its own goes to a log.

    Args:
        width: of what is no terminal, in characters: a pipe or a log has no width of its own.
    """
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width
    return console
