"""A queue of uploads that one background thread works off: nobody waits for a server, and nothing is given up.

What fails (the server is away, answers 5xx or nothing, refuses the key) is tried again, with waits that
double up to ten seconds, for as long as the process runs. An outage is reported once, and so is its end. Of
several uploads with one name the newest that has not started counts.
"""

import atexit
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from undercut import events
from undercut.downloads import Interrupted
from undercut.errors import ConfigurationError

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 10.0
# A process that ends waits so long for what is still queued: half of a pod's usual grace period.
EXIT_SECONDS = 15.0


@dataclass(eq=False)
class Upload:
    """One thing to store: ``run`` does it, ``close`` frees what it holds, ``taken`` is a monotonic time or 0."""

    name: str
    run: Callable[["Upload"], None]
    close: Callable[[], None]
    taken: float = 0.0
    unwanted: bool = False

    def check(self, _: int = 0) -> None:
        """Stop an upload on its way that nobody wants any more; called as bytes go out.

        Raises:
            Interrupted: it is unwanted.
        """
        if self.unwanted:
            raise Interrupted("no longer wanted")


class Uploads:
    """The queue and its thread; ``place`` names it in messages.

    ``lag_seconds`` is how long checkpoints take from being taken until they are stored; infinite before the first.
    """

    def __init__(self, place: str) -> None:
        self.place, self.lag_seconds = place, math.inf
        self._queue: list[Upload] = []
        self._running: Upload | None = None
        self._changed = threading.Condition()
        self._hurry_until = 0.0
        self._failures, self._failing_since = 0, 0.0
        self._told_slow = False
        self._thread: threading.Thread | None = None

    def add(self, upload: Upload) -> None:
        """Queue an upload; an older one of its name that has not started is dropped."""
        with self._changed:
            self._drop([u for u in self._queue if u.name == upload.name and u is not self._running])
            self._queue.append(upload)
            if self._thread is None:
                atexit.register(self.flush, EXIT_SECONDS)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def discard(self, name: str) -> None:
        """Drop what is queued as ``name`` or under it; what is on its way is stopped."""
        with self._changed:
            unwanted = [u for u in self._queue if u.name == name or u.name.startswith(name + "/")]
            for upload in unwanted:
                upload.unwanted = True
            self._drop([u for u in unwanted if u is not self._running])
            self._changed.notify_all()

    def slower_than(self, seconds: float) -> bool:
        """Tell, once, that a checkpoint took longer than this to be stored though the server answered."""
        slow = seconds < self.lag_seconds < math.inf and not self._failures and not self._told_slow
        self._told_slow = self._told_slow or slow
        return slow

    def flush(self, seconds: float) -> bool:
        """Wait until all is stored, ``seconds`` at most, trying again more often; False if something is not."""
        with self._changed:
            self._hurry_until = time.monotonic() + seconds
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queue, timeout=seconds)

    def _drop(self, uploads: list[Upload]) -> None:
        for upload in uploads:
            self._queue.remove(upload)
            upload.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                upload = self._running = self._queue[0]
            failure = _attempt(upload)
            with self._changed:
                self._running = None
                replaced = any(u.name == upload.name for u in self._queue if u is not upload)
                if failure is None or upload.unwanted or replaced:
                    self._drop([upload])
                if failure is None:
                    self._stored(upload)
                elif not upload.unwanted:
                    self._failed(failure)
                self._changed.notify_all()

    def _stored(self, upload: Upload) -> None:
        if upload.taken and not self._failures:  # an outage is not how long an upload takes
            took = time.monotonic() - upload.taken
            self.lag_seconds = max(took, (took + min(self.lag_seconds, took * 3)) / 2)  # falls slowly, rises at once
        if self._failures:
            away = time.monotonic() - self._failing_since
            events.message(f"{self.place} answers again after {away:.0f} s: checkpoints are stored")
        self._failures = 0

    def _failed(self, failure: str) -> None:
        """Report the first failure in a row, and wait before the next attempt."""
        if not self._failures:
            self._failing_since = time.monotonic()
            events.message(
                f"a checkpoint could not be stored yet ({failure}); the training goes on, and so do attempts"
            )
        self._failures += 1
        wait = min(FIRST_WAIT_SECONDS * 2 ** (self._failures - 1), LONGEST_WAIT_SECONDS)
        hurried = self._hurry_until
        if time.monotonic() < hurried:
            wait = FIRST_WAIT_SECONDS
        self._changed.wait_for(lambda: self._hurry_until != hurried, timeout=wait)


def _attempt(upload: Upload) -> str | None:
    """Run an upload; returns why it failed, or None."""
    try:
        upload.run(upload)
    except (Interrupted, ConfigurationError) as error:
        return str(error)
    return None
