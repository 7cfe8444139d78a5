"""SIGTERM, and a store that stops: a training on a real S3 server. ``-m resilience`` prints what was measured."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from undercut import interruption

from tests.attempts import (
    BUCKET,
    PREFIX,
    SECRET,
    assert_secret_nowhere,
    environment,
    read_events,
    running,
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


def test_who_was_not_asked_itself_lets_the_one_that_was_end_first() -> None:
    with interruption.watched():
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(interruption.Terminated):
            interruption.end(3)
        assert interruption.requested(), "ended before it was asked"


BETWEEN = """
import sys, time, torch
from undercut import checkpoints, interruption, workspace
checkpoints.save(workspace.home() / "checkpoints" / "0b1d", 1, {"w": torch.zeros(4)}, {})
assert checkpoints.flush(20)
print("up", flush=True)
sys.stdin.readline()
with interruption.flushed():
    checkpoints.save(workspace.home() / "checkpoints" / "0b1d", 2, {"w": torch.zeros(4)}, {})
    print("saved", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_sigterm_between_two_trainings_waits_for_the_store(tmp_path: Path) -> None:
    with serving(tmp_path, SECRET) as weed:
        client = weed.bucket(BUCKET)
        pod = {**environment(weed, tmp_path), "UNDERCUT_HOME": str(tmp_path / "disk")}
        command = [sys.executable, "-c", BETWEEN]
        with running(subprocess.Popen(command, env=pod, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            weed.signal(signal.SIGSTOP)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"saved\n"
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            weed.signal(signal.SIGCONT)
            assert process.wait(60) == 143
            process.stdin.close()
            process.stdout.close()
        assert stored_steps(client, tmp_path) == [1, 2]


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
    with running(start_loop(weed, tmp_path, "first", 3600, 1000, 1)) as process:
        wait_for_step(tmp_path, 1, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    last = steps_done(read_events(tmp_path))[-1]
    assert stored_steps(weed.client(), tmp_path) == [last.step]
    assert f"the checkpoint of step {last.step} was stored" in read_events(tmp_path)[-1]["error"]
    assert "Traceback" not in (tmp_path / "log").read_text()


def until_an_upload_is_on_its_way(weed: Weed, process: "subprocess.Popen[bytes]") -> None:
    client = weed.bucket(BUCKET)
    while not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"):
        assert process.poll() is None
        time.sleep(0.005)


def goes_on_from_the_newest(weed: Weed, folder: Path) -> None:
    newest = max(stored_steps(weed.client(), folder))
    with running(start_loop(weed, folder, "second", 2, 100_000, 96)) as again:
        wait_for_step(folder, 2, again)
    assert next(d for d in steps_done(read_events(folder)) if d.attempt == 2).step == newest + 1


@pytest.mark.resilience
def test_a_store_that_stops_for_a_minute_in_the_middle_of_an_upload_costs_nothing(tmp_path: Path) -> None:
    """One server freezes, another is killed and starts again on its data; two trainings go on meanwhile.

    Once a store is back it gets the newest state, and a new pod goes on from that.
    """
    frozen, killed = (tmp_path / name for name in ("frozen", "killed"))
    with contextlib.ExitStack() as stack:
        weeds = {folder: stack.enter_context(serving(folder, SECRET)) for folder in (frozen, killed)}
        for weed in weeds.values():
            weed.bucket(BUCKET)
        first = {f: stack.enter_context(running(start_loop(w, f, "first", 2, 100_000, 96))) for f, w in weeds.items()}
        for folder, stop in ((frozen, lambda: weeds[frozen].signal(signal.SIGSTOP)), (killed, weeds[killed].kill)):
            until_an_upload_is_on_its_way(weeds[folder], first[folder])
            stop()
        began = {folder: steps_done(read_events(folder))[-1].step for folder in weeds}
        time.sleep(60)
        weeds[frozen].signal(signal.SIGCONT)
        weeds[killed].start()
        ended, back = {folder: steps_done(read_events(folder))[-1].step for folder in weeds}, time.monotonic()
        for folder, weed in weeds.items():
            weed.bucket(BUCKET)
            while max(stored_steps(weed.client(), folder), default=0) < ended[folder]:
                assert first[folder].poll() is None
                time.sleep(0.1)
            print(f"\n{folder.name} for 60 s: {ended[folder] - began[folder]} steps were done meanwhile;", end=" ")
            print(f"their state was stored {time.monotonic() - back:.1f} s after it")
            assert ended[folder] > began[folder]
        for folder, weed in weeds.items():
            with running(first[folder]):
                pass
            goes_on_from_the_newest(weed, folder)
            said = [e["message"] for e in read_events(folder) if e["type"] == "message"]
            assert sum("could not be stored yet" in text for text in said) == 1
            assert sum("answers again" in text for text in said) == 1
            assert_secret_nowhere(weed, folder)


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
        torchrun = subprocess.Popen(command, env=pod, stdout=log, stderr=log)
    with running(torchrun):
        wait_for_step(tmp_path, 1, torchrun)
        time.sleep(0.5)
        sent = time.time()
        torchrun.send_signal(signal.SIGTERM)
        torchrun.wait(timeout=60)
    client, last, failed = weed.client(), steps_done(read_events(tmp_path))[-1], read_events(tmp_path)[-1]
    print(f"\n{failed['error']} (torchrun ended {time.time() - sent:.1f} s after it)")
    assert stored_steps(client, tmp_path) == [last.step]
    (state,) = (k for k in keys(client, BUCKET, f"{PREFIX}/{tmp_path.name}/") if k.endswith("state.json"))
    assert client.head_object(Bucket=BUCKET, Key=state)["LastModified"].timestamp() - sent <= 15
    assert failed["error"].startswith(f"ended by request: the checkpoint of step {last.step} was stored ")
    assert_secret_nowhere(weed, tmp_path)
