"""Killing a process in the middle of its work."""

import signal
import subprocess
import time
from pathlib import Path


def kill_when(process: "subprocess.Popen[bytes]", events: Path, text: str, times: int) -> None:
    """Send SIGKILL once the process has reported ``text`` so many times; fail if it ends before."""
    while not events.exists() or events.read_text().count(text) < times:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL, "ended before it could be killed"
