"""A step in a pod reports to MLflow by itself, at its end: there is no ``undercut run`` beside it to do so.

All steps of a KFP run share one parent run, found by KFP's run id in a tag; the step that comes first makes
it. Where KFP's own MLflow plugin has made runs already (``MLFLOW_RUN_ID``), the step writes into its own and
makes none. MLflow is imported after the work is done, and where its server is away the step says so and ends
as it would have. The parent is marked finished after each step, or failed where the last attempt at one failed.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undercut import registry, workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_TAG = "kfp.run_id"
KFP_RUN = "UNDERCUT_RUN_ID"
PLUGIN_RUN = "MLFLOW_RUN_ID"


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Collect the events of the block and send them; does nothing but in a pod that knows an MLflow server."""
    in_pod = os.environ.get(KFP_RUN) and os.environ.get("MLFLOW_TRACKING_URI")
    if not in_pod or os.environ.get("UNDERCUT_EVENTS"):
        yield
        return
    path = workspace.home() / "events.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.environ["UNDERCUT_EVENTS"] = str(path)
    try:
        yield
    finally:
        del os.environ["UNDERCUT_EVENTS"]
        if path.is_file():
            with path.open(encoding="utf-8") as lines:  # not splitlines: a text in an event may hold its separators
                written = [json.loads(line) for line in lines]
            _send(written, path)


def _send(events: list[dict[str, Any]], path: Path) -> None:
    client = registry.connect()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from undercut.mlflow_runs import Runs

    try:
        if joined := os.environ.get(PLUGIN_RUN):
            runs = Runs(client, registry.EXPERIMENT, "", {}, None, step_run=joined)
        else:
            runs = Runs(client, registry.EXPERIMENT, "", {}, None, run_id=parent_run(client))
        for event in events:
            runs.write(event, {})
        runs.flush()
        if not joined:
            _mark(client, runs.experiment, runs.run_id)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        uri = registry.shown(workspace.tracking_uri())
        reason = registry.shown(str(error).splitlines()[0][:300])
        print(f"MLflow ({uri}): {reason}. The step goes on; its events stay in {path}.", file=sys.stderr)


def shared_run(client: "MlflowClient") -> str:
    """Return the id of the run that a step in a pod adds to: the platform's own, or all steps'; empty elsewhere.

    Raises:
        MlflowException: the server cannot be reached, or refuses.
    """
    if not os.environ.get(KFP_RUN):
        return ""
    return os.environ.get(PLUGIN_RUN) or parent_run(client)


def parent_run(client: "MlflowClient") -> str:
    """Return the id of the run that all steps of this KFP run share; make it if there is none.

    Raises:
        MlflowException: the server cannot be reached, or refuses.
    """
    kfp_run = os.environ[KFP_RUN]
    experiment = registry.experiment_id(client, registry.EXPERIMENT)
    found = _parents(client, experiment, kfp_run)
    if found:
        return found[0]
    tags = {RUN_TAG: kfp_run, "code_digest": workspace.code_digest()[:12], "mlflow.source.name": "Kubeflow Pipelines"}
    own = str(client.create_run(experiment, tags=tags, run_name=f"kfp-{kfp_run[:8]}").info.run_id)
    first = _parents(client, experiment, kfp_run)[0]
    if first != own:  # two steps at once made one each: both take the earlier
        client.delete_run(own)
    return first


def _parents(client: "MlflowClient", experiment: str, kfp_run: str) -> list[str]:
    runs = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{kfp_run}'", order_by=["start_time ASC", "run_id"])
    return [str(run.info.run_id) for run in runs]


def _mark(client: "MlflowClient", experiment: str, parent: str) -> None:
    children = client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", order_by=["start_time ASC", "run_id"]
    )
    last = {(run.data.tags.get("step"), run.data.tags.get("detail")): run.info.status for run in children}
    client.set_terminated(parent, "FAILED" if "FAILED" in last.values() else "FINISHED")
