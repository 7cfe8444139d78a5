"""SIGTERM, and a store that stops: a training on a real S3 server. ``-m resilience`` prints what was measured."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attempts import (
    BUCKET,
    PREFIX,
    SECRET,
    assert_secret_nowhere,
    environment,
    read_events,
    steps_done,
    stored_steps,
    wait_for_step,
)
from tests.seaweedfs import Weed, keys, serving


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed"), SECRET) as server:
        server.bucket(BUCKET)
        yield server


# A training of a small network with steps of a twentieth of a second, whose checkpoints have so many megabytes.
LOOP = """
import sys, time
import numpy as np, torch
from undercut import checkpoints, workspace
from undercut.optimization import Precision
from undercut.steps import step
from undercut.training import LoopConfig, train
seconds, steps, size = float(sys.argv[1]), int(sys.argv[2]), int(float(sys.argv[3]) * 2**20 / 4 / 3)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.Dropout(0.1))
model.ballast = torch.nn.Parameter(torch.zeros(size))
def loss(rows):
    time.sleep(0.05)
    return model(torch.ones(len(rows), 8)).square().sum() + model.ballast[:9].sum()
with step("train"):
    folder = workspace.home() / "checkpoints" / "0b1d" / "train"
    config = LoopConfig(epochs=1, learning_rate=1e-3, checkpoint_seconds=seconds)
    cpu = Precision(device="cpu", bf16=False)
    train(model, lambda _: [np.arange(4)] * steps, loss, lambda _: True, config, cpu, folder, {})
    print("weights", model[0].weight.sum().item(), model.ballast[:9].sum().item())
    checkpoints.remove(folder.parent)
"""


def start_loop(
    weed: Weed, folder: Path, disk: str, seconds: float, steps: int, megabytes: float
) -> "subprocess.Popen[bytes]":
    (folder / "loop.py").write_text(LOOP)
    command = [sys.executable, str(folder / "loop.py"), str(seconds), str(steps), str(megabytes)]
    pod = {**environment(weed, folder), "UNDERCUT_HOME": str(folder / disk)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=pod, stdout=log, stderr=log)


@pytest.mark.slow
def test_sigterm_leaves_a_stored_checkpoint(weed: Weed, tmp_path: Path) -> None:
    process = start_loop(weed, tmp_path, "first", 3600, 1000, 1)
    wait_for_step(tmp_path, 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    last = steps_done(read_events(tmp_path))[-1]
    assert stored_steps(weed.client(), tmp_path) == [last.step]
    assert f"the checkpoint of step {last.step} was stored" in read_events(tmp_path)[-1]["error"]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.resilience
@pytest.mark.parametrize("outage", ["frozen", "killed"])
def test_a_store_that_stops_for_a_minute_in_the_middle_of_an_upload_costs_nothing(
    tmp_path: Path, outage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The training goes on meanwhile; once the store is back it gets the newest state, from which a new pod goes on."""
    with serving(tmp_path_factory.mktemp("weed"), SECRET) as weed:
        client = weed.bucket(BUCKET)
        process = start_loop(weed, tmp_path, "first", 2, 100_000, 96)
        while not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"):
            assert process.poll() is None
            time.sleep(0.005)
        began = steps_done(read_events(tmp_path))[-1].step
        stop, go_on = {
            "frozen": (lambda: weed.signal(signal.SIGSTOP), lambda: weed.signal(signal.SIGCONT)),
            "killed": (weed.kill, weed.start),
        }[outage]
        stop()
        time.sleep(60)
        go_on()
        ended, back = steps_done(read_events(tmp_path))[-1].step, time.monotonic()
        weed.bucket(BUCKET)
        while max(stored_steps(client, tmp_path), default=0) < ended:
            assert process.poll() is None
            time.sleep(0.1)
        waited = time.monotonic() - back
        process.kill()
        process.wait()
        newest = max(stored_steps(client, tmp_path))
        again = start_loop(weed, tmp_path, "second", 2, 100_000, 96)
        wait_for_step(tmp_path, 2, again)
        first = next(d for d in steps_done(read_events(tmp_path)) if d.attempt == 2)
        again.kill()
        again.wait()
    said = [e["message"] for e in read_events(tmp_path) if e["type"] == "message"]
    print(f"\n{outage} for 60 s: {ended - began} steps done meanwhile; stored {waited:.1f} s after it; {said}")
    assert ended - began > 100
    assert first.step == newest + 1
    assert sum("could not be stored yet" in text for text in said) == 1
    assert sum("answers again" in text for text in said) == 1


TRAIN = """
import json, sys
from pathlib import Path
from undercut.steps import step
with step("finetune", output=sys.argv[2]):
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig
    finetune(Path(sys.argv[1]), Path(sys.argv[2]), FinetuneConfig(**json.loads(sys.argv[3])))
"""


@pytest.mark.resilience
def test_sigterm_to_torchrun_leaves_a_stored_checkpoint(
    weed: Weed, small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Of the last step that was done, though the interval is an hour; within 15 s, by the store's clock."""
    settings = {"base_model": str(tiny_base), "epochs": 500, "batch_tokens": 128, "checkpoint_seconds": 3600}
    (tmp_path / "train.py").write_text(TRAIN)
    # What the script torchrun runs, but surely in this environment.
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", str(tmp_path / "train.py")]
    command += [str(small_data), str(tmp_path / "model"), json.dumps(settings)]
    pod = {**environment(weed, tmp_path), "UNDERCUT_HOME": str(tmp_path / "disk")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=pod, stdout=log, stderr=log)
    wait_for_step(tmp_path, 1, process)
    time.sleep(0.5)
    sent = time.time()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    client, last, failed = weed.client(), steps_done(read_events(tmp_path))[-1], read_events(tmp_path)[-1]
    print(f"\n{failed['error']} (torchrun ended {time.time() - sent:.1f} s after it)")
    assert stored_steps(client, tmp_path) == [last.step]
    (state,) = (k for k in keys(client, BUCKET, f"{PREFIX}/{tmp_path.name}/") if k.endswith("state.json"))
    assert client.head_object(Bucket=BUCKET, Key=state)["LastModified"].timestamp() - sent <= 15
    assert failed["error"].startswith(f"ended by request: the checkpoint of step {last.step} was stored ")
    assert_secret_nowhere(weed, tmp_path)
