"""What tells a process from all others of its machine, also from a later one of the same number."""

import psutil


def own() -> str:
    """Return this process: its number and the second in which it began."""
    process = psutil.Process()
    return f"{process.pid} {process.create_time():.0f}"


def alive(process: str) -> bool:
    """Tell whether a process that :func:`own` named still runs."""
    number, _, began = process.partition(" ")
    try:
        return f"{psutil.Process(int(number)).create_time():.0f}" == began
    except psutil.NoSuchProcess:
        return False
