"""From a structure's name to the module that makes it: ``linear-teacher`` is ``linear.py`` with ``teacher``."""

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from undercut import artifacts, events
from undercut.candidates import parse_candidates
from undercut.errors import CandidateLost


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a structure can be made from: each module takes what it needs.

    ``teacher`` is the fine-tuned model's folder, ``data`` the dataset's, ``scratch`` that of a language model
    pretrained from scratch, where the run has one.
    """

    teacher: Path
    data: Path
    scratch: Path | None = None


def compress(structure: str, teacher: Path, data: Path, output: Path, seed: int, scratch: Path | None = None) -> None:
    """Make ``structure`` from ``teacher``; one that fails in an expected way is sealed as lost.

    A structure's module has ``compress``, ``ARGUMENT`` (a pattern of what may stand after the dash) and
    ``FORMS`` (its names, in words).

    Args:
        structure: a module of this package, an argument after a dash.
        teacher: the fine-tuned model.
        data: dataset folder.
        output: where the model goes.
        seed: of whatever is random in making it.
        scratch: a language model pretrained from scratch, for the structure that starts from it.

    Raises:
        ConfigurationError: no module makes this structure.
    """
    parse_candidates([structure])
    kind, _, argument = structure.partition("-")
    inputs = Inputs(teacher=teacher, data=data, scratch=scratch)
    try:
        importlib.import_module(f"undercut.compress.{kind}").compress(inputs, output, argument, seed)
    except CandidateLost as lost:
        events.message(f"lost: {lost}")
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        content = artifacts.content(artifacts.load(teacher, artifacts.MODEL))
        artifacts.seal(output, artifacts.MODEL, content | {"structure": structure, "lost": str(lost)})
