"""Everything that the report is made of, read from the run's artifacts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undercut import artifacts
from undercut.candidates import REFERENCE, candidate_name

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The folders of a run's artifacts; those of stages that the run does without are None.

    ``base`` is transfer's model, ``scratch`` pretrain's, ``tuning`` the search for hyperparameters, ``monitoring`` what
    monitor saw before the training.
    """

    data: Path
    teacher: Path
    models: tuple[Path, ...]
    evaluations: tuple[Path, ...]
    profiles: Path
    selection: Path
    deployment: Path | None = None
    base: Path | None = None
    scratch: Path | None = None
    tuning: Path | None = None
    monitoring: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's manifests.

    Models, evaluations and profiles are keyed by candidate name and model digest, which is how they
    belong together.
    """

    data: artifacts.Manifest
    teacher: artifacts.Manifest
    models: Mapping[tuple[str, str], artifacts.Manifest]
    evaluations: Mapping[tuple[str, str], artifacts.Manifest]
    profiles: artifacts.Manifest
    selection: artifacts.Manifest
    deployment: artifacts.Manifest | None
    base: artifacts.Manifest | None
    scratch: artifacts.Manifest | None
    tuning: artifacts.Manifest | None
    monitoring: artifacts.Manifest | None

    @property
    def rows(self) -> list[Row]:
        """Return the selection's candidates."""
        return list(self.selection["candidates"])

    @property
    def running(self) -> list[Row]:
        """Return the candidates that have figures."""
        return [row for row in self.rows if row["verdict"] != "lost"]

    @property
    def chosen(self) -> Row | None:
        """Return the chosen candidate, or None if none passed."""
        return self.named(self.selection["chosen"])

    @property
    def reference(self) -> Row | None:
        """Return the fine-tuned model as it is, if it is among the candidates and has figures."""
        return next((row for row in self.running if row["candidate"] == REFERENCE), None)

    @property
    def shown(self) -> Row | None:
        """Return the candidate whose answers are shown: the chosen one, else the best; None if all are lost."""
        return self.chosen or self.named(self.selection["best"])

    @property
    def transferred(self) -> artifacts.Manifest | None:
        """Return the base that was adapted to the domain; None if there is none, or it was handed on as it is."""
        return self._made("transferred")

    @property
    def pretrained(self) -> artifacts.Manifest | None:
        """Return the language model pretrained from scratch, or None."""
        return self._made("pretrained")

    def _made(self, structure: str) -> artifacts.Manifest | None:
        made = [model for model in (self.base, self.scratch) if model is not None and not model["lost"]]
        return next((model for model in made if model["structure"] == structure), None)

    def named(self, name: str) -> Row | None:
        """Return a candidate by its name, or None."""
        return next((row for row in self.rows if row["candidate"] == name), None)

    def evaluation(self, row: Row) -> artifacts.Manifest:
        """Return a candidate's evaluation."""
        return self.evaluations[row["candidate"], row["digest"]]

    def model(self, row: Row) -> artifacts.Manifest:
        """Return a candidate's model manifest."""
        return self.models[row["candidate"], row["digest"]]


def read(sources: Sources) -> Run:
    """Read the manifests of a run.

    Raises:
        ConfigurationError: a folder does not hold what it should.
    """
    models = [artifacts.load(path, artifacts.MODEL) for path in sources.models]
    evaluations = [artifacts.load(path, artifacts.EVALUATION) for path in sources.evaluations]
    return Run(
        data=artifacts.load(sources.data, artifacts.DATASET),
        teacher=artifacts.load(sources.teacher, artifacts.MODEL),
        models={(candidate_name(m), m["digest"]): m for m in models},
        evaluations={(e["candidate"], e["model"]): e for e in evaluations},
        profiles=artifacts.load(sources.profiles, artifacts.PROFILES),
        selection=artifacts.load(sources.selection, artifacts.SELECTION),
        deployment=_optional(sources.deployment, artifacts.DEPLOYMENT),
        base=_optional(sources.base, artifacts.MODEL),
        scratch=_optional(sources.scratch, artifacts.MODEL),
        tuning=_optional(sources.tuning, artifacts.TUNING),
        monitoring=_optional(sources.monitoring, artifacts.MONITORING),
    )


def _optional(folder: Path | None, name: str) -> artifacts.Manifest | None:
    return artifacts.load(folder, name) if folder else None
