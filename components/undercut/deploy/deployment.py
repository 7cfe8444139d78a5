"""Register the chosen model, test it as a server, and make it champion if it has earned that.

Whatever fails, the champion stays as it was and the step fails with what went wrong.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undercut import artifacts, events, pod_tracking, registry
from undercut.bar import TRAFFIC
from undercut.companions import Origin
from undercut.deploy.promotion import Challenger, Promotion, promote
from undercut.deploy.registration import register
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import SmokeTestError, smoke_test
from undercut.deploy.stages import inside, report
from undercut.deploy.targets import Tested, target_of
from undercut.errors import ConfigurationError, Unavailable
from undercut.predictors import Predictor, load_predictor

if TYPE_CHECKING:
    from mlflow import MlflowClient

SMOKE_ROWS = 20


def deploy(
    chosen: Path, selection: Path, data: Path, output: Path, config: DeployConfig, teacher: Path | None = None
) -> None:
    """Deploy the selection's choice.

    Args:
        chosen: its model folder.
        selection: the selection's folder.
        data: the dataset; its test rows decide between champion and challenger.
        output: receives ``deployment.json``.
        config: settings.
        teacher: the fine-tuned model, kept beside the registered version for a later training to go on from.

    Raises:
        ConfigurationError: a folder was tampered with, nothing was selected, or MLflow cannot be reached.
        SmokeTestError: the registered model does not answer over HTTP as it should.
        PromotionError: the alias could not be moved.
        DeploymentError: the cluster does not serve the model; what served before serves on.
    """
    output.mkdir(parents=True, exist_ok=True)
    report("checking the folder")
    choice = artifacts.load(selection, artifacts.SELECTION)
    model, target = _chosen_model(chosen, choice), target_of(config)
    target.check(model)
    texts, _ = artifacts.texts_and_labels(data, "test")
    client = registry.connect()
    with _run(client, config.model_name) as run_id:
        _check_task(client, config.model_name, model["labels"])
        report("registering")
        origin = Origin(data=data, teacher=teacher)
        with inside("registering"):
            version = register(client, chosen, choice, len(texts), config.model_name, run_id, origin)
        report("testing the server")
        asked = texts[:: max(1, len(texts) // SMOKE_ROWS)][:SMOKE_ROWS]
        predictor, smoke = _tested(client, version, asked)
        report("comparing with the champion")
        batch = TRAFFIC[choice["traffic"]]
        challenger = Challenger(version=version, predictor=predictor, data=data, batch=batch)
        tested = Tested(folder=chosen, manifest=model, predictor=predictor, texts=asked)
        promotion = promote(client, challenger, config, lambda: target.serve(tested))
        if promotion.rollout is None and promotion.before:
            target.keep(promotion.before.digest)
        _record(client, version, promotion)
    report("done")
    content = {"model": model["digest"], "dataset": artifacts.load(data, artifacts.DATASET)["digest"]}
    artifacts.seal(output, artifacts.DEPLOYMENT, {**content, **_outcome(client, config, version, smoke, promotion)})
    events.message(f"{config.model_name} version {version.number}: {promotion.reason}")


def _chosen_model(chosen: Path, choice: artifacts.Manifest) -> artifacts.Manifest:
    if not choice["passed"]:
        raise ConfigurationError("selection.passed", False, "a selection whose choice passed the bar")
    digest = next(row["digest"] for row in choice["candidates"] if row["candidate"] == choice["chosen"])
    return artifacts.verify(chosen, artifacts.MODEL, digest)


def _check_task(client: "MlflowClient", name: str, labels: list[str]) -> None:
    champion = registry.by_alias(client, name, registry.CHAMPION)
    if champion is None:
        return
    known = artifacts.load(registry.fetch(client, champion), artifacts.MODEL)["labels"]
    if not set(known) & set(labels):
        allowed = f"a name whose champion answers this task (its labels are {', '.join(known[:5])}, …)"
        raise ConfigurationError("model_name", name, allowed, "Give another name; finished steps are not repeated")


@contextlib.contextmanager
def _run(client: "MlflowClient", name: str) -> Iterator[str]:
    """Yield the pipeline's MLflow run, or one of this step's own that ends with it."""
    from mlflow.exceptions import MlflowException

    given = os.environ.get(registry.RUN_VARIABLE)
    try:
        given = given or pod_tracking.shared_run(client)
        if given:
            run_id = str(client.get_run(given).info.run_id)
        else:
            experiment = registry.experiment_id(client, registry.EXPERIMENT)
            run_id = str(client.create_run(experiment, run_name=f"deploy {name}").info.run_id)
    except MlflowException as error:
        allowed = "an MLflow server that answers, or no value for the workspace's own store"
        uri = registry.shown(client.tracking_uri)
        raise Unavailable("MLFLOW_TRACKING_URI", uri, allowed, "Start the server and run again") from error
    status = "FAILED"
    try:
        yield run_id
        status = "FINISHED"
    finally:
        if not given:
            client.set_terminated(run_id, status)


def _tested(client: "MlflowClient", version: registry.Version, texts: list[str]) -> tuple[Predictor, dict[str, Any]]:
    """Test what the registry gives back; a version that fails loses the challenger's alias."""
    champion = registry.by_alias(client, version.name, registry.CHAMPION)
    waits = champion is None or champion.number != version.number
    if waits:
        client.set_registered_model_alias(version.name, registry.CHALLENGER, version.number)
    folder = registry.fetch(client, version)
    predictor = load_predictor(folder, 1, version.digest)
    try:
        result = smoke_test(folder, version.name, version.digest, texts, predictor)
    except SmokeTestError as error:
        client.set_model_version_tag(version.name, version.number, "smoke_test", f"failed: {error}"[:1000])
        if waits:
            client.delete_registered_model_alias(version.name, registry.CHALLENGER)
        raise
    client.set_model_version_tag(version.name, version.number, "smoke_test", f"passed, {result['rows']} rows")
    return predictor, result


def _record(client: "MlflowClient", version: registry.Version, promotion: Promotion) -> None:
    if promotion.before and promotion.before.digest == version.digest:
        challenger = registry.by_alias(client, version.name, registry.CHALLENGER)
        if challenger and challenger.number == version.number:  # its promotion was cut short after the move
            client.delete_registered_model_alias(version.name, registry.CHALLENGER)
        return
    client.set_model_version_tag(version.name, version.number, "promotion", promotion.reason)
    if promotion.moved:
        client.delete_registered_model_alias(version.name, registry.CHALLENGER)


def _outcome(
    client: "MlflowClient",
    config: DeployConfig,
    version: registry.Version,
    smoke: dict[str, Any],
    promotion: Promotion,
) -> dict[str, Any]:
    before = promotion.before
    return {
        "model_name": config.model_name,
        "version": version.number,
        "target": config.target,
        "champion": promotion.moved,
        "reason": promotion.reason,
        "uri": f"models:/{config.model_name}@{registry.CHAMPION}",
        "smoke_test": smoke,
        "champion_before": before and {"version": before.number, "model": before.digest, "tags": dict(before.tags)},
        "comparison": promotion.comparison,
        "tracking_uri": registry.shown(client.tracking_uri),
        "kserve": promotion.rollout and promotion.rollout.record,
    }
