"""What a training does when its machine is taken away: save at the next step, store, exit with code 143.

SIGTERM is what Kubernetes sends before it ends a pod, and ``torchrun`` passes on to its processes; under
``torchrun`` SIGINT means the same. The handler only notes the signal; the loop asks :func:`requested` after
each step. A step of Kubeflow Pipelines has about one second from SIGTERM until it is killed, since KFP's
launcher does not handle it: there the interval between checkpoints is what holds. A TrainJob's pod has its
grace period, in which the last checkpoint is saved and stored.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from undercut import events

EXIT_TERMINATED = 128 + signal.SIGTERM
# Of the 30 seconds that a pod has by default, and torchrun gives its processes: half for what comes after.
FLUSH_SECONDS = 15.0
# How long a process that was not asked itself lets the one that was end before it, and with it the job as a whole.
PEERS_SECONDS = 25.0

_received: list[tuple[int, float]] = []


class Terminated(SystemExit):
    """The training ends, with exit code 143, because its process was asked to; ``reason`` says how it stands."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(EXIT_TERMINATED)

    def __str__(self) -> str:
        return self.reason


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Note SIGTERM (under ``torchrun`` SIGINT too) while the body runs; outside the main thread do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [signal.SIGTERM, *([signal.SIGINT] if "TORCHELASTIC_RUN_ID" in os.environ else [])]
    _received.clear()
    before = {number: signal.signal(number, _note) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """On SIGTERM while the body runs, but no loop that watches for it: wait until all is stored, then exit."""

    def leave(number: int, _: FrameType | None) -> None:
        from undercut import checkpoints

        stored = checkpoints.flush(FLUSH_SECONDS)
        raise Terminated(
            f"ended by request outside of its steps: what was saved is {'' if stored else 'not yet '}stored"
        )

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _note(number: int, _: FrameType | None) -> None:
    _received.append((number, time.monotonic()))


def requested() -> bool:
    """Tell whether the process was asked to end."""
    return bool(_received)


def end(step: int) -> None:
    """End the process after the checkpoint of ``step`` was saved: wait until it is stored, then exit.

    Of several processes one may have been asked alone, its node being taken. The others wait to be asked as well: the
    first pod to end tells Kubernetes why the job did, and only the taken one's end costs none of its restarts.

    Raises:
        Terminated: always.
    """
    from undercut import checkpoints

    number, since = _received[0] if _received else (signal.SIGTERM, time.monotonic())
    stored = checkpoints.flush(max(0.0, FLUSH_SECONDS - (time.monotonic() - since)))
    took = f"{time.monotonic() - since:.1f} s after {signal.Signals(number).name}"
    where = "saved" if checkpoints.store() is None else "stored" if stored else "saved here, but not yet stored,"
    reason = f"ended by request: the checkpoint of step {step} was {where} {took}"
    events.message(reason)
    patience = time.monotonic() + PEERS_SECONDS
    while not _received and time.monotonic() < patience:
        time.sleep(0.1)
    raise Terminated(reason)
