"""Put a model folder into MLflow's registry, with a page that a person can read."""

import functools
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undercut import artifacts, companions, registry
from undercut.candidates import candidate_name
from undercut.deploy import description
from undercut.deploy.stages import report

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_CODE = Path(__file__).with_name("registered_model.py")


def register(
    client: "MlflowClient",
    folder: Path,
    selection: artifacts.Manifest,
    rows: int,
    name: str,
    run_id: str,
    origin: companions.Origin | None = None,
) -> registry.Version:
    """Register a verified model folder, with what is kept beside it; a version with the same digest is used again.

    Args:
        client: of the tracking server, which is the registry as well.
        folder: the model folder.
        selection: the selection's manifest, which names the folder's model as its choice.
        rows: number of test rows, for the description.
        name: the registered model's name.
        run_id: the MLflow run that the version belongs to.
        origin: its dataset and its teacher; None keeps nothing beside it.
    """
    digest = artifacts.load(folder, artifacts.MODEL)["digest"]
    known = registry.by_digest(client, name, digest)
    version = known or _create_version(client, folder, selection, rows, name, run_id)
    if origin is None:
        return version
    return companions.keep(client, version, folder, origin, functools.partial(report, "registering"))


def _create_version(
    client: "MlflowClient", folder: Path, selection: artifacts.Manifest, rows: int, name: str, run_id: str
) -> registry.Version:
    import mlflow

    model = artifacts.load(folder, artifacts.MODEL)
    row = next(row for row in selection["candidates"] if row["digest"] == model["digest"])
    _create_registered_model(client, name)
    model_id = _log_model(client, folder, model, row, selection["bar"]["metric"], run_id)
    mlflow.set_tracking_uri(client.tracking_uri)  # the SQL registry looks the model up at the global address
    client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run_id,
        tags=description.tags(model, row, selection),
        description=description.version_text(model, row, selection, rows),
        model_id=model_id,
    )
    created = registry.by_digest(client, name, model["digest"])
    assert created is not None, f"version of {name} with digest {model['digest']} was just created"
    versions = json.dumps([{"name": name, "version": int(created.number)}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})  # the link on the model's own page
    return created


def _create_registered_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"made by": "undercut"}, description=description.model_text(name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if not client.get_registered_model(name).description:  # made by a training that missed the bar
            client.update_registered_model(name, description.model_text(name))


def _log_model(
    client: "MlflowClient",
    folder: Path,
    model: artifacts.Manifest,
    row: Mapping[str, Any],
    metric: str,
    run_id: str,
) -> str:
    """Store the folder as an MLflow model of the run, with its figures; returns the model's id."""
    from mlflow.entities import LoggedModelOutput, Metric

    logged = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=candidate_name(model).replace("/", "-"),
        source_run_id=run_id,
        params={key: str(model[key]) for key in ("structure", "precision", "format", "method", "max_length")},
        tags={registry.DIGEST_TAG: model["digest"]},
        model_type="text-classification",
    )
    with tempfile.TemporaryDirectory() as scratch:
        _save(Path(scratch) / "model", folder, model, logged.model_id, run_id)
        client.log_model_artifacts(logged.model_id, str(Path(scratch) / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    values = description.figures(model, row, metric).items()
    client.log_batch(run_id, metrics=[Metric(k, v, now, 0, model_id=logged.model_id, run_id=run_id) for k, v in values])
    return str(logged.model_id)


def _save(path: Path, folder: Path, model: artifacts.Manifest, model_id: str, run_id: str) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        path=str(path),
        python_model=str(MODEL_CODE),
        artifacts={"model": str(folder)},
        model_config={"digest": model["digest"], "threads": 1},
        pip_requirements=description.requirements(model),
        mlflow_model=Model(model_id=model_id, run_id=run_id),
    )
    saved = Model.load(str(path))
    saved.flavors["python_function"].pop("cloudpickle_version")  # nothing here is pickled; say nothing else
    saved.save(str(path / "MLmodel"))
