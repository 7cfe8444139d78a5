"""Two containers of the train image, started by Kubeflow's own SDK on Docker, train as one process does here."""

import json
import re
import uuid

import pytest
from undercut.images import TRAIN_IMAGE

pytestmark = pytest.mark.container


def train(target: str = "") -> None:
    """Train a small network; the SDK ships this function's source, so that it holds all that it needs."""
    import json
    from pathlib import Path
    from typing import Any

    import numpy as np
    import torch
    from undercut import distributed
    from undercut.optimization import Precision
    from undercut.training import LoopConfig, LoopState, train

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 2))
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    losses: list[float] = []

    def batches(epoch: int) -> list[Any]:
        return np.split(np.random.default_rng(epoch).permutation(64), 8)

    def loss(indices: Any) -> torch.Tensor:
        rows = indices[distributed.share()]
        return torch.nn.functional.cross_entropy(model(x[rows]), y[rows], reduction="sum") / 8

    def after_epoch(state: LoopState) -> bool:
        losses.append(state.epoch_loss / 8)
        return True

    config = LoopConfig(epochs=4, learning_rate=1e-2, checkpoint_seconds=0.0)
    with distributed.group():
        train(model, batches, loss, after_epoch, config, Precision(device="cpu", bf16=False), Path("/tmp/none"), {})
    if distributed.is_first():
        print("LOSSES", distributed.size(), json.dumps(losses), flush=True)


def test_two_containers_of_the_sdk_train_as_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    docker = pytest.importorskip("docker")
    trainer = pytest.importorskip("kubeflow.trainer")
    from kubeflow.trainer import ContainerBackendConfig, TrainingRuntimeSource
    from kubeflow.trainer.options import Name

    try:
        docker.from_env().images.get(TRAIN_IMAGE)
    except docker.errors.DockerException as error:
        pytest.skip(f"Docker or the image {TRAIN_IMAGE} is missing: {error}")
    settings = ContainerBackendConfig(
        pull_policy="Never", container_runtime="docker", runtime_source=TrainingRuntimeSource(sources=[])
    )
    client = trainer.TrainerClient(backend_config=settings)
    source = trainer.CustomTrainer(func=train, image=TRAIN_IMAGE, num_nodes=2, env={"OMP_NUM_THREADS": "1"})
    name = client.train(trainer=source, options=[Name(f"undercut-{uuid.uuid4().hex[:8]}")])
    try:
        client.wait_for_job_status(name, status={"Complete", "Failed"}, timeout=600, polling_interval=2)
        words = "\n".join(client.get_job_logs(name, step="node-0"))
    finally:
        client.delete_job(name)
    found = re.search(r"LOSSES (\d) (\[.*\])", words)
    assert found, words
    train()
    (_, _, alone) = capsys.readouterr().out.strip().splitlines()[-1].split(" ", 2)
    assert found[1] == "2"
    assert json.loads(found[2]) == pytest.approx(json.loads(alone), rel=1e-5)
    assert json.loads(alone)[-1] < json.loads(alone)[0]
