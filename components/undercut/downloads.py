"""Remote files to local ones: resumed when cut short, renamed when whole, kept in the workspace.

A copy lives in ``downloads/<key of the URI>/`` beside ``download.json``, which holds what the server
calls its version (an ETag, say). A copy is used again if its pin says so, or if the server still has
that version; an unfinished one is gone on with where it stopped. A scheme gives :func:`fetch` one
function that opens the remote file; retries, limits, progress and renaming are here.

``UNDERCUT_DOWNLOAD_GB`` (50) is the largest file that is fetched.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from undercut import artifacts, events, workspace
from undercut.errors import ConfigurationError, Unavailable

# The waits double: 0.5 to 32 seconds, a minute together, which a server's restart seldom outlasts.
ATTEMPTS, FIRST_WAIT_SECONDS = 8, 0.5
_PROGRESS_SECONDS = 0.5
_GB = 10**9


class Interrupted(Exception):
    """The connection failed in a way that another attempt may mend; the argument says how.

    ``advanced`` tells that something came before it failed: then the attempts are counted anew.
    """

    advanced = False


@dataclass(frozen=True, kw_only=True)
class Have:
    """What is here already: so many bytes of the version that the server called ``version``."""

    bytes: int = 0
    version: str = ""
    complete: bool = False


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A remote file, opened.

    ``start`` is the place of the first byte of ``chunks`` (0 where the server begins anew), ``total``
    the whole file's bytes if the server tells; ``unchanged`` says that the complete copy is still right.
    """

    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    start: int = 0
    total: int | None = None
    version: str = ""
    unchanged: bool = False


Opener = Callable[[Have], AbstractContextManager[Opened]]


def folder(uri: str) -> Path:
    """Return the folder in which a URI's copy is kept."""
    return workspace.home() / "downloads" / hashlib.sha256(uri.encode()).hexdigest()[:24]


def safe_name(name: str) -> str:
    """Return the last part of a remote name as a file's name."""
    return re.sub(r"[^\w.+-]", "_", name.rstrip("/").rpartition("/")[2])[-120:].lstrip(".") or "content"


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold a folder, waiting for another process that fetches the same; freed when the process ends."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(uri: str, path: Path, setting: str, pinned: str, opener: Opener) -> Path:
    """Bring a remote file to ``path`` unless it is there.

    Args:
        uri: what is fetched, for errors.
        path: where it goes; its folder is this file's alone.
        setting: the setting that names the URI, for errors.
        pinned: the SHA-256 it must have, or empty. The caller checks it; here it saves a request.
        opener: opens the remote file; raises Interrupted where another attempt may help.

    Raises:
        ConfigurationError: the server cannot be reached, or the file is over the limit or the disk.
    """
    with locked(path.parent):
        if path.is_file() and pinned and artifacts.file_digest(path) == pinned:
            return path
        transfer = _Transfer(uri, path, setting, check=not pinned)
        persist(lambda: transfer.run(opener), uri, setting)
    return path


def persist(attempt: Callable[[], None], uri: str, setting: str) -> None:
    """Call ``attempt`` until it ends without Interrupted, with growing waits in between.

    Raises:
        Unavailable: ``ATTEMPTS`` attempts in a row brought nothing.
    """
    number = 0
    while True:
        try:
            return attempt()
        except Interrupted as error:
            number = 1 if error.advanced else number + 1
            if number >= ATTEMPTS:
                remedy = f"Check the address and that the server runs. The last of {ATTEMPTS} attempts: {error}"
                raise Unavailable(setting, uri, "a server that answers", remedy) from error
            wait = FIRST_WAIT_SECONDS * 2 ** (number - 1)
            events.message(f"{setting}: attempt {number} of {ATTEMPTS} failed ({error}); again in {wait:g} s")
            time.sleep(wait)


def limit_bytes() -> int:
    """Return the size of the largest file that is fetched.

    Raises:
        ConfigurationError: ``UNDERCUT_DOWNLOAD_GB`` is not a positive number.
    """
    value = os.environ.get("UNDERCUT_DOWNLOAD_GB", "50")
    if not re.fullmatch(r"\d+(\.\d+)?", value) or not float(value):
        raise ConfigurationError("UNDERCUT_DOWNLOAD_GB", value, "a positive number of gigabytes")
    return int(float(value) * _GB)


def check_size(total: int, present: int, place: Path, uri: str, setting: str) -> None:
    """Refuse a file over the limit, or one that the disk has no room for.

    Raises:
        ConfigurationError: with the sizes.
    """
    if total > limit_bytes():
        allowed = f"at most {limit_bytes() / _GB:g} GB (it has {total / _GB:.3g} GB)"
        raise ConfigurationError(setting, uri, allowed, "Raise UNDERCUT_DOWNLOAD_GB to fetch it")
    free = shutil.disk_usage(place).free
    if total - present > free:
        allowed = f"at most the disk's free {free / _GB:.3g} GB (it has {total / _GB:.3g} GB)"
        raise ConfigurationError(setting, uri, allowed, "Free space, or set UNDERCUT_HOME to a larger disk")


class _Transfer:
    """One file's way here, over as many connections as it takes."""

    def __init__(self, uri: str, path: Path, setting: str, check: bool) -> None:
        self.uri, self.path, self.setting = uri, path, setting
        self.partial = path.with_name(path.name + ".partial")
        self.record = path.with_name("download.json")
        self.partial_record = path.with_name("partial.json")
        self._may_keep = check

    def have(self) -> Have:
        """Return the finished copy, which only a server can call out of date, or the unfinished one."""
        if self._may_keep and self.path.is_file() and (version := _version(self.record)):
            return Have(bytes=self.path.stat().st_size, version=version, complete=True)
        version = _version(self.partial_record) if self.partial.is_file() else ""
        return Have(bytes=self.partial.stat().st_size, version=version) if version else Have()

    def run(self, opener: Opener) -> None:
        """Open the file and receive what is missing."""
        have = self.have()
        with opener(have) as opened:
            if opened.unchanged:
                events.message(f"{self.setting}: {self.uri} has not changed; the copy here is used")
                return
            check_size(opened.total or 0, opened.start, self.path.parent, self.uri, self.setting)
            artifacts.write_json(self.partial_record, {"uri": self.uri, "version": opened.version})
            received = self._receive(opened)
        if opened.total is not None and received != opened.total:
            self.partial.unlink()
            raise Interrupted(f"{received:,} bytes came instead of {opened.total:,}")
        self.partial.replace(self.path)
        self.partial_record.replace(self.record)

    def _receive(self, opened: Opened) -> int:
        received, limit, reported = opened.start, limit_bytes(), time.monotonic()
        with self.partial.open("r+b" if opened.start else "wb") as stream:
            stream.truncate(opened.start)
            stream.seek(opened.start)
            try:
                for chunk in opened.chunks:
                    stream.write(chunk)
                    received += len(chunk)
                    if received > limit:
                        check_size(received, received, self.path.parent, self.uri, self.setting)
                    if time.monotonic() - reported > _PROGRESS_SECONDS:
                        reported = time.monotonic()
                        events.progress(received, opened.total or received, f"{received / 1e6:,.0f} MB fetched")
            except Interrupted as error:
                error.advanced = received > opened.start
                raise
        return received


def _version(record: Path) -> str:
    return str(json.loads(record.read_text(encoding="utf-8"))["version"]) if record.is_file() else ""
