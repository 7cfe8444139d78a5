"""From a structure's name to the module that makes it: ``linear-teacher`` is ``linear.py`` with ``teacher``."""

import importlib
import shutil
from pathlib import Path

from undercut import artifacts, events
from undercut.candidates import parse_candidates
from undercut.errors import CandidateLost


def compress(structure: str, teacher: Path, data: Path, output: Path, seed: int) -> None:
    """Make ``structure`` from ``teacher``; one that fails in an expected way is sealed as lost.

    A structure's module has ``compress``, ``ARGUMENT`` (a pattern of what may stand after the dash) and
    ``FORMS`` (its names, in words).

    Raises:
        ConfigurationError: no module makes this structure.
    """
    parse_candidates([structure])
    kind, _, argument = structure.partition("-")
    try:
        importlib.import_module(f"undercut.compress.{kind}").compress(teacher, data, output, argument, seed)
    except CandidateLost as lost:
        events.message(f"lost: {lost}")
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        content = artifacts.content(artifacts.load(teacher, artifacts.MODEL))
        artifacts.seal(output, artifacts.MODEL, content | {"structure": structure, "lost": str(lost)})
