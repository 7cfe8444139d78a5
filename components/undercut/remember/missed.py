"""A dataset that was trained on in vain: a note in the registry, which monitor reads."""

from pathlib import Path

from undercut import artifacts, events, registry
from undercut.errors import ConfigurationError


def remember(data: Path, selection: Path, model_name: str) -> None:
    """Tag the registered model with the dataset's digest and the selection's sentence.

    Args:
        data: the dataset.
        selection: the selection's folder.
        model_name: the name in the registry; it is made if there is none yet.

    Raises:
        ConfigurationError: a candidate passed: then it is for deploy to register it.
    """
    choice = artifacts.load(selection, artifacts.SELECTION)
    if choice["passed"]:
        raise ConfigurationError("selection.passed", True, "a selection in which no candidate passed the bar")
    digest = artifacts.load(data, artifacts.DATASET)["digest"]
    registry.note_missed(registry.connect(), model_name, digest, choice["sentence"])
    events.message(f"noted: dataset {digest[:12]} is not tried again until it changes")
