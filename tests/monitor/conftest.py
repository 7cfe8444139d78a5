"""A registry with a champion, and datasets that differ from its own in known ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, companions, registry
from undercut.monitor.settings import MonitorConfig
from undercut.monitor.start import Start
from undercut.monitor.watch import monitor

from tests.conftest import small_rows, write_dataset, write_linear_model

CANDIDATES = [{"structure": "finetuned", "precision": "int8"}, {"structure": "linear", "precision": "as-is"}]
Monitor = Callable[..., tuple[Start | None, dict[str, Any]]]


def write_version(model: Path, data: Path, teacher: Path | None = None, **tags: str) -> registry.Version:
    """Register a model folder as the next version of ``shop``, with what is kept beside it."""
    client = registry.connect()
    manifest = artifacts.load(model, artifacts.MODEL)
    run = client.create_run(registry.experiment_id(client, registry.EXPERIMENT)).info.run_id
    client.log_artifacts(run, str(model), "model")
    if not client.search_registered_models("name = 'shop'"):
        client.create_registered_model("shop")
    name = f"{manifest['structure']}/{manifest['precision']}"
    known = {"candidate": name, "dataset": manifest["dataset"], "digest": manifest["digest"], **tags}
    created = client.create_model_version("shop", source=f"runs:/{run}/model", run_id=run, tags=known)
    version = registry.by_number(client, "shop", str(created.version))
    assert version is not None
    return companions.keep(client, version, model, companions.Origin(data=data, teacher=teacher))


@pytest.fixture
def register() -> Callable[..., registry.Version]:
    """:func:`write_version`."""
    return write_version


@pytest.fixture(scope="session")
def early_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the first 400 of the small rows; 176 of the same kind are to come."""
    return write_dataset(tmp_path_factory.mktemp("early") / "data", small_rows()[:400])


@pytest.fixture(scope="session")
def early_model(tmp_path_factory: pytest.TempPathFactory, early_data: Path) -> Path:
    """A linear model made from it."""
    return write_linear_model(tmp_path_factory.mktemp("early") / "model", early_data)


@pytest.fixture
def champion(registry_store: None, early_model: Path, early_data: Path) -> registry.Version:
    """The linear model of the early rows, champion of ``shop``."""
    version = write_version(early_model, early_data)
    registry.connect().set_registered_model_alias("shop", registry.CHAMPION, version.number)
    return version


@pytest.fixture
def watch(tmp_path: Path) -> Monitor:
    """A function that monitors a dataset and returns the start and ``monitoring.json``."""
    count = iter(range(100))

    def run(data: Path, **settings: Any) -> tuple[Start | None, dict[str, Any]]:
        output = tmp_path / f"monitoring-{next(count)}"
        start = monitor(data, output, MonitorConfig(model_name="shop", **settings), CANDIDATES)
        return start, artifacts.verify(output, artifacts.MONITORING)

    return run
