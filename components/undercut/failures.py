"""Inputs that a step refused, remembered for the rest of its run, so that a retry does not pay for them again.

KFP's launcher turns every exit code into 1, so a cluster retries a refused input as it retries a lost pod.
Where ``UNDERCUT_CHECKPOINTS`` and ``UNDERCUT_RUN_ID`` are set, a step that refuses its input leaves its message
in the store, and the next attempt at the same step finds it, says the same, and ends at once. Another run starts
afresh; deleting ``failures/<run>/`` in the store does so for this one.
"""

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

from undercut import events
from undercut.downloads import Interrupted
from undercut.errors import ConfigurationError, Unavailable

CONNECT_SECONDS, READ_SECONDS = 3, 5


class RefusedBefore(ConfigurationError):
    """An earlier attempt at the same step refused its input; the message is that attempt's."""

    def __init__(self, message: str) -> None:
        ValueError.__init__(self, message)


@dataclass(frozen=True)
class Marker:
    """The place in the store where one task's refusal is remembered."""

    uri: str
    bucket: str
    key: str

    @classmethod
    def of(cls, step: str, detail: str, output: str) -> "Marker | None":
        """Return the marker of a task, or None where nothing is remembered.

        A task is known by its output's path, which all its attempts share and no other task has; without an
        output by its node in the workflow, less the number of the attempt.
        """
        uri, run = os.environ.get("UNDERCUT_CHECKPOINTS", ""), os.environ.get("UNDERCUT_RUN_ID", "")
        if not uri or not run:
            return None
        from undercut.checkpoint_store import split

        bucket, prefix = split(uri)
        node = re.sub(r"\(\d+\)$", "", os.environ.get("UNDERCUT_NODE", ""))
        task = hashlib.sha256((output or f"{step} {detail} {node}").encode()).hexdigest()[:24]
        safe_run = re.sub(r"[^A-Za-z0-9._-]", "-", run)
        return cls(uri, bucket, "/".join(part for part in (prefix, "failures", safe_run, task) if part))

    def check(self) -> None:
        """Refuse what an earlier attempt refused.

        Raises:
            RefusedBefore: with that attempt's message.
        """
        if message := self._read():
            raise RefusedBefore(message)

    def _read(self) -> str:
        """Return the message of an earlier attempt, empty if there is none or the store does not answer."""
        from undercut import objects

        client = self._client
        try:
            with objects.explained(f"s3://{self.bucket}/{self.key}", "UNDERCUT_CHECKPOINTS"):
                return str(client.get_object(Bucket=self.bucket, Key=self.key)["Body"].read().decode())
        except ConfigurationError as error:
            if isinstance(error.__cause__, client.exceptions.NoSuchKey):
                return ""
            return self._unreadable(error)
        except Interrupted as error:
            return self._unreadable(error)

    def write(self, error: ConfigurationError) -> None:
        """Leave the message for the next attempt, unless that may fare better."""
        from undercut import objects

        if isinstance(error, RefusedBefore | Unavailable):
            return
        try:
            with objects.explained(f"s3://{self.bucket}/{self.key}", "UNDERCUT_CHECKPOINTS"):
                self._client.put_object(Bucket=self.bucket, Key=self.key, Body=str(error).encode())
        except (ConfigurationError, Interrupted) as failure:
            events.message(f"a retry will not know of this refusal: {failure}")

    def _unreadable(self, error: Exception) -> str:
        events.message(f"whether an earlier attempt failed for good is not known: {error}")
        return ""

    @functools.cached_property
    def _client(self) -> Any:
        from undercut import objects

        return objects.connect(CONNECT_SECONDS, READ_SECONDS, attempts=1)
