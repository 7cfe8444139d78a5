"""A training component as KFP's launcher starts it, whose resources make it a TrainJob: its pods come and go."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.cluster import folders

from tests.attempts import (
    BUCKET,
    RUN,
    SECRET,
    assert_secret_nowhere,
    environment,
    read_events,
    running,
    steps_done,
    wait_for_step,
)
from tests.cluster.trainer import NAMESPACE, Cluster, Trainer
from tests.conftest import clean_environment
from tests.launcher import Task
from tests.seaweedfs import Weed, serving

pytestmark = pytest.mark.resilience


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = Cluster(tmp_path)
    yield server
    server.close()


@pytest.fixture
def weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weed]:
    with serving(tmp_path / "weed", SECRET) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.bucket(BUCKET)
        yield server


@pytest.fixture
def trainer(cluster: Cluster, weed: Weed) -> Iterator[Trainer]:
    player = Trainer(cluster, {**clean_environment(), **weed.environment})
    yield player
    player.close()


def pod(cluster: Cluster, weed: Weed, folder: Path, number: int, spot: str) -> dict[str, str]:
    """Return the environment of the pod of an attempt."""
    return {
        **environment(weed, folder),
        "KUBECONFIG": str(cluster.kubeconfig()),
        "UNDERCUT_POD": f"pod-{number}",
        "UNDERCUT_POD_UID": f"uid-{number}",
        "UNDERCUT_NAMESPACE": NAMESPACE,
        "UNDERCUT_IMAGE": "undercut-train-python:0.1.0",
        "UNDERCUT_SPOT": spot,
    }


def said(folder: Path) -> list[str]:
    return [event["message"] for event in read_events(folder) if event["type"] == "message"]


def component(folder: Path) -> Path:
    from kfp import compiler
    from undercut.finetune.component import finetune

    compiler.Compiler().compile(finetune, str(folder / "finetune.yaml"))
    return folder / "finetune.yaml"


def task(folder: Path, data: Path, base: Path, nodes: int) -> Task:
    """Return a task whose data is in the store, where KFP's launcher has it too: under ``minio`` beside ``folder``."""
    folder.mkdir()
    bucket = folder.parent / "minio" / BUCKET
    if not bucket.exists():
        bucket.mkdir(parents=True)
        (bucket / "data").symlink_to(data)
        folders.upload(data, f"s3://{BUCKET}/data")
    arguments: dict[str, Any] = {"base_model": str(base), "epochs": 20, "patience": 20, "learning_rate": 3e-4}
    arguments |= {"batch_tokens": 128, "train_embeddings": True, "checkpoint_seconds": 3600.0}
    return Task(
        component=component(folder),
        arguments={**arguments, "resources": {"nodes": float(nodes), "cpu": "1"}},
        inputs={"data": bucket / "data"},
        outputs=bucket / "artifacts" / RUN / folder.name,
        mount=bucket.parent,
    )


@pytest.mark.parametrize(("nodes", "spot"), [(2, ""), (1, "1")])
def test_a_step_that_loses_its_pods_ends_with_the_same_weights(
    cluster: Cluster,
    weed: Weed,
    trainer: Trainer,
    small_data: Path,
    tiny_base: Path,
    tmp_path: Path,
    nodes: int,
    spot: str,
) -> None:
    """The first pod is told to end, and its workers store the last step; the second vanishes, and the third adopts."""
    whole, lost = (tmp_path / name for name in ("whole", "lost"))
    undisturbed = task(whole, small_data, tiny_base, nodes)
    with running(undisturbed.start(whole / "disk", pod(cluster, weed, whole, 0, spot), whole / "log")) as process:
        assert process.wait() == 0, (whole / "log").read_text()[-3000:]

    again = task(lost, small_data, tiny_base, nodes)
    log = lost / "log"
    with running(again.start(lost / "disk-1", pod(cluster, weed, lost, 1, spot), log)) as process:
        wait_for_step(lost, 1, process)
        process.terminate()
        assert process.wait() == -signal.SIGKILL
    assert len(cluster.jobs()) == 1, "the deletion is the first act"
    ended = time.monotonic()
    while len(trainer.deleted) < nodes:
        time.sleep(0.1)
    for worker in trainer.deleted:
        worker.wait(30)
    print(f"\n{nodes} nodes: {len(trainer.deleted)} ended {time.monotonic() - ended:.1f} s after the step")
    with running(again.start(lost / "disk-2", pod(cluster, weed, lost, 2, spot), log)) as process:
        wait_for_step(lost, 2, process)
        os.killpg(process.pid, signal.SIGKILL)
    (resumed,) = (text for text in said(lost) if text.startswith("resumed at step"))
    with running(again.start(lost / "disk-3", pod(cluster, weed, lost, 3, spot), log)) as process:
        assert process.wait() == 0, log.read_text()[-3000:]

    assert len(trainer.started) == 3, "one for the undisturbed, one for each of the first two pods"
    (job,) = (job for job in cluster.jobs() if job["metadata"]["name"] == trainer.started[-1])
    assert [owner["uid"] for owner in job["metadata"]["ownerReferences"]] == ["uid-3"]
    stored = [
        line
        for lines in cluster.logs.values()
        for _, line in lines
        if "was stored" in line and "ended by request" in line
    ]
    assert stored, "the workers were to store their last step"
    assert resumed.split()[3] == stored[0].partition("the checkpoint of step ")[2].split()[0]
    one, two = (artifacts.verify(t.output("model"), artifacts.MODEL) for t in (undisturbed, again))
    assert two["files"]["model.safetensors"] == one["files"]["model.safetensors"]
    assert {done.attempt for done in steps_done(read_events(lost))} == {1, 2, 3}
    assert_secret_nowhere(weed, lost)
    assert SECRET not in str(cluster.jobs())


def test_the_node_that_is_taken_ends_before_the_others(
    cluster: Cluster, weed: Weed, trainer: Trainer, small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """By it Kubernetes knows that the job was disturbed, and did not fail: such restarts are not counted."""
    folder = tmp_path / "taken"
    step = task(folder, small_data, tiny_base, 2)
    with running(step.start(folder / "disk", pod(cluster, weed, folder, 1, ""), folder / "log")) as process:
        wait_for_step(folder, 1, process)
        ((taken, other),) = trainer.processes.values()
        taken.terminate()
        assert taken.wait(60) != 0
        assert other.poll() is None
        assert process.wait() == 1
    assert "node 0: Error, exit code 1" in (folder / "log").read_text()
