"""What is kept beside a registered version, on a real registry."""

from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, companions, registry, workspace
from undercut.errors import ConfigurationError
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.storage import local_path

from tests.conftest import small_rows, write_dataset
from tests.monitor.conftest import write_version

pytestmark = pytest.mark.usefixtures("registry_store")


@pytest.fixture
def version(registry_store: None, linear_model: Path, small_data: Path, tiny_teacher: Path) -> registry.Version:
    """A linear version of ``shop`` with a teacher."""
    found = write_version(linear_model, small_data, tiny_teacher)
    registry.connect().set_registered_model_alias("shop", registry.CHAMPION, found.number)
    return found


def test_teacher_and_reference_come_back_as_they_went(version: registry.Version, tiny_teacher: Path) -> None:
    client = registry.connect()
    digest = artifacts.load(tiny_teacher, artifacts.MODEL)["digest"]
    assert version.tags["teacher"] == digest
    found = companions.teacher(client, version)
    assert found is not None
    assert found != tiny_teacher
    assert artifacts.verify(found, artifacts.MODEL, digest)["structure"] == "finetuned"
    kept = companions.reference(client, version)
    assert kept is not None
    assert artifacts.verify(kept, artifacts.REFERENCE)["model"] == version.digest


def test_who_serves_the_version_does_not_fetch_them(version: registry.Version) -> None:
    folder = registry.fetch(registry.connect(), version)
    assert not list(folder.rglob("reference.json"))
    assert sorted(p.name for p in folder.parent.iterdir()) == [version.digest]


def test_a_version_of_the_registry_is_a_base_model(
    version: registry.Version, tmp_path: Path, tiny_teacher: Path
) -> None:
    """Fine-tuning goes on from it: with the same labels it starts where it ended."""
    for uri in ("models://shop@champion", "models://shop@1"):
        assert (local_path(uri, "base_model") / "model.safetensors").is_file()
    rows = [(f"{text} again", label) for text, label in small_rows()]
    data = write_dataset(tmp_path / "data", rows)
    settings: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-5, "batch_tokens": 256, "refit": False}
    manifest = finetune(data, tmp_path / "next", FinetuneConfig(base_model="models://shop@1", **settings))
    assert manifest["base_model"]["uri"] == "models://shop@1"
    (point,) = manifest["metrics"]["curve"]
    assert point["validation_accuracy"] > 0.9


def test_a_teacher_that_was_altered_is_refused(version: registry.Version) -> None:
    (stored,) = (workspace.home() / "mlartifacts").rglob("teacher/*/config.json")
    stored.write_text(stored.read_text() + " ")
    with pytest.raises(ConfigurationError, match="SHA-256"):
        local_path("models://shop@1", "base_model")


def test_a_fine_tuned_version_is_its_own_teacher(tiny_teacher: Path, small_data: Path) -> None:
    found = write_version(tiny_teacher, small_data, tiny_teacher)
    assert "teacher" not in found.tags
    folder = companions.teacher(registry.connect(), found)
    assert folder is not None
    assert artifacts.load(folder, artifacts.MODEL)["digest"] == found.digest


def test_keeping_twice_stores_once(version: registry.Version, linear_model: Path, small_data: Path) -> None:
    again = companions.keep(registry.connect(), version, linear_model, companions.Origin(data=small_data))
    assert again == version


@pytest.mark.parametrize("uri", ["models://shop", "models://shop@", "models://shop@7", "models://other@champion"])
def test_a_version_that_is_not_there_is_refused(version: registry.Version, uri: str) -> None:
    with pytest.raises(ConfigurationError, match="base_model"):
        local_path(uri, "base_model")


def test_a_version_without_a_teacher_says_so(linear_model: Path, small_data: Path) -> None:
    write_version(linear_model, small_data)
    with pytest.raises(ConfigurationError, match="fine-tuned model kept beside it"):
        local_path("models://shop@1", "base_model")
