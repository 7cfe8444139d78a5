"""How far a deployment is, for the person watching."""

import contextlib

from undercut import events

STAGES = (
    "checking the folder",
    "registering",
    "testing the server",
    "comparing with the champion",
    "waiting for the pods",
    "testing the pods",
    "watching the canary",
    "promoting",
    "done",
)


def report(stage: str, share: float = 0.0) -> None:
    """Report a stage of :data:`STAGES` and the share of it that is done."""
    events.progress(STAGES.index(stage) + share, len(STAGES) - 1, stage)


def inside(stage: str) -> contextlib.AbstractContextManager[None]:
    """Count what is reported inside as parts of a stage."""
    return events.part(STAGES.index(stage), len(STAGES) - 1, stage)
