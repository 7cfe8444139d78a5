"""A candidate is two words: structure (what the model is) and precision (what it is served as)."""

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undercut.errors import ConfigurationError

# What the others must undercut: the fine-tuned model itself.
REFERENCE = "finetuned/as-is"
PRECISIONS = ("as-is", "fp32", "int8", "int8-static", "int8-mixed")
# Structures that are served from their own weights and have no other form.
OWN_FORMAT = ("linear", "static")
DEFAULT_CANDIDATES = [
    {"structure": "finetuned", "precision": "as-is"},
    {"structure": "finetuned", "precision": "fp32"},
    {"structure": "finetuned", "precision": "int8"},
    {"structure": "linear", "precision": "as-is"},
    {"structure": "linear-teacher", "precision": "as-is"},
    {"structure": "static", "precision": "as-is"},
]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to serve: ``finetuned/int8``, ``linear-teacher/as-is``."""

    structure: str
    precision: str

    @property
    def name(self) -> str:
        """Return ``structure/precision``."""
        return f"{self.structure}/{self.precision}"


def candidate_name(manifest: Mapping[str, Any]) -> str:
    """Return the candidate's name from its model manifest."""
    return f"{manifest['structure']}/{manifest['precision']}"


def parse_candidates(items: Sequence[object]) -> tuple[Candidate, ...]:
    """Check a list of candidates, each a mapping or ``structure/precision`` (``as-is`` if left out).

    Raises:
        ConfigurationError: names the entry and what is allowed.
    """
    if not isinstance(items, list | tuple) or not items:
        raise ConfigurationError("candidates", items, "a list of one candidate or more, such as finetuned/int8")
    parsed = tuple(_parse(f"candidates[{i}]", item) for i, item in enumerate(items))
    doubled = [c.name for i, c in enumerate(parsed) if c in parsed[:i]]
    if doubled:
        raise ConfigurationError("candidates", doubled[0], "each candidate once", "Remove the second one")
    return parsed


def _parse(field: str, item: object) -> Candidate:
    if isinstance(item, str):
        structure, _, precision = item.partition("/")
        item = {"structure": structure, "precision": precision or "as-is"}
    if not isinstance(item, Mapping) or set(item) - {"structure", "precision"} or "structure" not in item:
        raise ConfigurationError(field, item, "structure/precision, for example linear/as-is")
    structure, precision = str(item["structure"]), str(item.get("precision", "as-is"))
    kind, dash, argument = structure.partition("-")
    if kind not in known_structures():
        raise ConfigurationError(f"{field}.structure", structure, f"one of {', '.join(known_structures())}")
    module = importlib.import_module(f"undercut.compress.{kind}")
    if bool(dash) != bool(argument) or not re.fullmatch(module.ARGUMENT, argument):
        raise ConfigurationError(f"{field}.structure", structure, module.FORMS)
    if precision not in PRECISIONS:
        raise ConfigurationError(f"{field}.precision", precision, f"one of {', '.join(PRECISIONS)}")
    if kind in OWN_FORMAT and precision != "as-is":
        raise ConfigurationError(
            f"{field}.precision", precision, f"as-is for a {kind} model", "It is served from its own weights"
        )
    return Candidate(structure=structure, precision=precision)


def known_structures() -> list[str]:
    """Return the structures that this installation can make: the modules of ``undercut.compress``."""
    spec = importlib.util.find_spec("undercut.compress")
    assert spec is not None, "undercut.compress is part of the package"
    assert spec.submodule_search_locations, spec
    modules = Path(spec.submodule_search_locations[0]).glob("*.py")
    return sorted(p.stem for p in modules if p.stem not in ("__init__", "component", "structures"))
