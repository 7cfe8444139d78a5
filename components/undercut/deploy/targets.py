"""Where a chosen model is deployed: this machine's registry alone, or a KServe cluster as well.

The cluster's modules are imported where it is asked for: a local deployment does not wait for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from undercut import artifacts
from undercut.candidates import candidate_name
from undercut.deploy.settings import DeployConfig
from undercut.errors import ConfigurationError
from undercut.predictors import Predictor

# What the serve image loads: it has no PyTorch.
SERVED_FORMATS = ("onnx", "linear", "static")


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A registered model that passed its test on this machine, and the texts to ask it again elsewhere."""

    folder: Path
    manifest: artifacts.Manifest
    predictor: Predictor
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What came of it: whether the model is ``serving``, why it was taken back, and what deployment.json says."""

    serving: bool = True
    rollback: str = ""
    record: dict[str, Any] | None = None


class Target(Protocol):
    """What a deployment does beside the registry."""

    def check(self, model: artifacts.Manifest) -> None:
        """Refuse what could not be deployed, before anything is written."""
        ...

    def serve(self, tested: Tested) -> Rollout:
        """Have the model served, or come back without it."""
        ...

    def keep(self, champion: str) -> None:
        """The champion, whose digest is given, stays: leave nothing half done behind."""
        ...


class Local:
    """Nothing beside the registry: ``undercut serve`` serves its champion."""

    def check(self, model: artifacts.Manifest) -> None:
        """Take any model."""

    def serve(self, tested: Tested) -> Rollout:
        """Return that nothing else was asked for."""
        return Rollout()

    def keep(self, champion: str) -> None:
        """Nothing to do."""


class KServe:
    """An InferenceService in the cluster."""

    def __init__(self, config: DeployConfig) -> None:
        """Find the cluster; nothing is sent.

        Raises:
            ConfigurationError: there is none, or no place for releases.
        """
        from undercut.deploy.cluster import Cluster, own_namespace
        from undercut.deploy.release import releases

        releases()
        self._config, self._cluster = config, Cluster(own_namespace(config.namespace))

    def check(self, model: artifacts.Manifest) -> None:
        """Refuse a model that the serve image cannot load.

        Raises:
            ConfigurationError: the model needs PyTorch.
        """
        if model["format"] not in SERVED_FORMATS:
            allowed = "a candidate in ONNX, linear or static form: the serve image has no PyTorch"
            remedy = "Name ONNX candidates, for example finetuned/fp32 or finetuned/int8"
            raise ConfigurationError("target", f"kserve with {candidate_name(model)}", allowed, remedy)

    def serve(self, tested: Tested) -> Rollout:
        """Release the folder to S3 and roll it out."""
        from undercut.deploy.inference_service import Served
        from undercut.deploy.release import release
        from undercut.deploy.rollout import Rolling, roll_out

        uri = release(tested.folder, tested.manifest, self._config.model_name)
        served = Served(digest=tested.manifest["digest"], uri=uri)
        return roll_out(
            Rolling(
                cluster=self._cluster,
                config=self._config,
                served=served,
                texts=tested.texts,
                predictor=tested.predictor,
            )
        )

    def keep(self, champion: str) -> None:
        """Take back a canary that an earlier run left, and say so where the service has another model."""
        from undercut.deploy.changes import note_another, withdraw_canary

        withdraw_canary(self._cluster, self._config)
        note_another(self._cluster, self._config, champion)


def target_of(config: DeployConfig) -> Target:
    """Return the target that the settings name."""
    return KServe(config) if config.target == "kserve" else Local()
