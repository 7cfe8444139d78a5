"""Attempts at a step, as its pod's environment sees them: what they did, what was lost, what they left in the store."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import clean_environment
from tests.seaweedfs import Weed, keys

BUCKET, PREFIX = "private", "team/undercut/checkpoints"
SECRET = "planted-7c1f0e52-secret"
RUN = "4f7c2d10-run"


def environment(weed: Weed, folder: Path) -> dict[str, str]:
    """Return the environment of a step's pod; its events outlive it."""
    return {
        **clean_environment(),
        **weed.environment,
        "UNDERCUT_CHECKPOINTS": f"s3://{BUCKET}/{PREFIX}/{folder.name}",
        "UNDERCUT_RUN_ID": RUN,
        "UNDERCUT_EVENTS": str(folder / "events.jsonl"),
    }


def read_events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Done:
    """One step of training, by the clock of who watches: which attempt did it, in which pass, its number there."""

    time: float
    attempt: int
    part: int
    step: int


def steps_done(events: list[dict[str, Any]]) -> list[Done]:
    found, attempt, part = [], 0, 0
    for event in events:
        if event["type"] == "started":
            attempt += 1
        elif event["type"] == "message" and event["message"].startswith("choosing the epoch"):
            part = 0
        elif event["type"] == "message" and "was best: training again" in event["message"]:
            part = 1
        elif event["type"] == "progress":
            found.append(Done(event["time"], attempt, part, int(event["done"])))
    return found


def lost(done: list[Done], attempt: int) -> tuple[int, float]:
    """Return how many steps, and how many seconds of work, of the attempt before this one has to repeat."""
    first = next(d for d in done if d.attempt == attempt)
    before = [d for d in done if d.attempt == attempt - 1]
    repeated = [d for d in before if (d.part, d.step) >= (first.part, first.step)]
    if not repeated:
        return 0, 0.0
    kept = before[: -len(repeated)]
    # A step is reported at its end: without one that was kept, the first repeated step's own time is left out.
    return len(repeated), repeated[-1].time - (kept or repeated)[-1 if kept else 0].time


@contextlib.contextmanager
def running(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Kill the process at the end, and its group if that is its own, however the test ends."""
    try:
        yield process
    finally:
        if process.poll() is None and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def wait_for_step(folder: Path, attempt: int, process: "subprocess.Popen[bytes]") -> None:
    while not any(d.attempt == attempt for d in steps_done(read_events(folder))):
        assert process.poll() is None, f"attempt {attempt} ended before it could be killed"
        time.sleep(0.02)


def stored_steps(client: Any, folder: Path) -> list[int]:
    names = keys(client, BUCKET, f"{PREFIX}/{folder.name}/")
    return sorted(int(name.split("/")[-2].removeprefix("step-")) for name in names if name.endswith("state.json"))


def assert_secret_nowhere(weed: Weed, folder: Path) -> None:
    """Look for the planted key in what the attempts wrote: logs, events, and whatever is in the store."""
    for path in (folder / "log", folder / "events.jsonl"):
        assert SECRET not in path.read_text()
    client = weed.client()
    for key in keys(client, BUCKET):
        assert SECRET not in key
        assert SECRET.encode() not in client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
