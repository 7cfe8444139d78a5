"""What is lost when pods are killed and the object store stops: under a stand-in for KFP's launcher, on a real S3.

The small tests run always; ``make test-resilience`` runs the long ones and prints what they measured.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig

from tests.conftest import clean_environment
from tests.launcher import Task
from tests.seaweedfs import Weed, keys, serving

BUCKET, PREFIX = "private", "team/undercut/checkpoints"
SECRET = "planted-7c1f0e52-secret"


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed"), SECRET) as server:
        server.bucket(BUCKET)
        yield server


def environment(weed: Weed, folder: Path) -> dict[str, str]:
    """Return the environment of a step's pod; its events outlive it."""
    return {
        **clean_environment(),
        **weed.environment,
        "UNDERCUT_CHECKPOINTS": f"s3://{BUCKET}/{PREFIX}/{folder.name}",
        "UNDERCUT_RUN_ID": "4f7c2d10-run",
        "UNDERCUT_EVENTS": str(folder / "events.jsonl"),
    }


def read_events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Done:
    """One step of training, by the clock of who watches: which attempt did it, in which pass, its number there."""

    time: float
    attempt: int
    part: int
    step: int


def steps_done(events: list[dict[str, Any]]) -> list[Done]:
    found, attempt, part = [], 0, 0
    for event in events:
        if event["type"] == "started":
            attempt += 1
        elif event["type"] == "message" and event["message"].startswith("choosing the epoch"):
            part = 0
        elif event["type"] == "message" and "was best: training again" in event["message"]:
            part = 1
        elif event["type"] == "progress":
            found.append(Done(event["time"], attempt, part, int(event["done"])))
    return found


def lost(done: list[Done], attempt: int) -> tuple[int, float]:
    """Return how many steps, and how many seconds of work, an attempt has to repeat of those before it."""
    first = next(d for d in done if d.attempt == attempt)
    before = [d for d in done if d.attempt < attempt]
    # Where it went on after step n, everything later than the last time that n was reached is lost.
    at = max((i for i, d in enumerate(before) if (d.part, d.step) == (first.part, first.step - 1)), default=-1)
    lost_steps = [d for d in before[at + 1 :] if (d.part, d.step) >= (first.part, first.step)]
    if not lost_steps:
        return 0, 0.0
    begin = before[at].time if at >= 0 else lost_steps[0].time
    return len(lost_steps), lost_steps[-1].time - begin


def compiled(folder: Path) -> Path:
    from kfp import compiler
    from undercut.finetune.component import finetune as component

    compiler.Compiler().compile(component, str(folder / "finetune.yaml"))
    return folder / "finetune.yaml"


def wait_for_step(folder: Path, attempt: int, process: "subprocess.Popen[bytes]") -> None:
    while not any(d.attempt == attempt for d in steps_done(read_events(folder))):
        assert process.poll() is None, f"attempt {attempt} ended before it could be killed"
        time.sleep(0.02)


def killed_and_resumed(folder: Path, task: Task, weed: Weed, kills: int, longest: float) -> list[Done]:
    """Kill a task so many times, each at a random moment of its training, and let it end; an empty disk each time."""
    moments = random.Random(0)
    for attempt in range(1, kills + 2):
        process = task.start(folder / f"disk-{attempt}", environment(weed, folder), folder / "log")
        if attempt > kills:
            assert process.wait() == 0, (folder / "log").read_text()[-3000:]
            break
        wait_for_step(folder, attempt, process)
        time.sleep(moments.uniform(0.1, longest))
        process.terminate()
        assert process.wait() == -signal.SIGKILL, f"attempt {attempt} ended before it was killed"
    return steps_done(read_events(folder))


@pytest.mark.parametrize(
    ("kills", "epochs", "interval"),
    [
        pytest.param(2, 8, 0.5, marks=pytest.mark.slow),
        pytest.param(20, 60, 2.0, marks=pytest.mark.resilience),
    ],
)
def test_a_step_killed_again_and_again_ends_with_the_same_weights(
    weed: Weed, small_data: Path, tiny_base: Path, tmp_path: Path, kills: int, epochs: int, interval: float
) -> None:
    settings: dict[str, Any] = {"base_model": str(tiny_base), "epochs": epochs, "patience": epochs}
    settings |= {"learning_rate": 3e-4, "batch_tokens": 128, "train_embeddings": True}
    undisturbed = finetune(small_data, tmp_path / "whole", FinetuneConfig(**settings, checkpoint_seconds=0.0))
    arguments = {**settings, "checkpoint_seconds": interval}
    outputs = tmp_path / "artifacts" / "4f7c2d10-run" / "finetune" / "0b1d"
    task = Task(component=compiled(tmp_path), arguments=arguments, inputs={"data": small_data}, outputs=outputs)
    done = killed_and_resumed(tmp_path, task, weed, kills, 1.6 * interval)
    losses = [lost(done, attempt) for attempt in range(2, kills + 2)]
    print(f"\n{kills} kills, interval {interval} s, {done[-1].step} steps in the second pass")
    print("steps lost:  ", " ".join(str(steps) for steps, _ in losses))
    print("seconds lost:", " ".join(f"{seconds:.2f}" for _, seconds in losses))
    manifest = artifacts.verify(task.output("model"), artifacts.MODEL)
    assert manifest["digest"] == undisturbed["digest"]
    whole, resumed = (p / "model.safetensors" for p in (tmp_path / "whole", task.output("model")))
    assert whole.read_bytes() == resumed.read_bytes()
    assert max(seconds for _, seconds in losses) <= interval
    assert keys(weed.client(), BUCKET, f"{PREFIX}/{tmp_path.name}/") == [], "an ended training leaves nothing"
    assert_secret_nowhere(weed, tmp_path)


def assert_secret_nowhere(weed: Weed, folder: Path) -> None:
    """Look for the planted key in what the attempts wrote: logs, events, and whatever is in the store."""
    for path in (folder / "log", folder / "events.jsonl"):
        assert SECRET not in path.read_text()
    client = weed.client()
    for key in keys(client, BUCKET):
        assert SECRET not in key
        assert SECRET.encode() not in client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def test_a_refused_input_is_refused_again_at_once(weed: Weed, small_data: Path, tmp_path: Path) -> None:
    """The second attempt does not look at the base model; once the marker is gone, the third does."""
    base = tmp_path / "base"
    task = Task(
        component=compiled(tmp_path),
        arguments={"base_model": str(base)},
        inputs={"data": small_data},
        outputs=tmp_path / "artifacts" / "model",
    )

    def attempt() -> str:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        assert task.start(tmp_path / "disk", environment(weed, tmp_path), log).wait() == 1
        (line,) = (text for text in log.read_text().splitlines() if text.startswith("finetune: "))
        return line

    refused = attempt()
    assert "base_model: got" in refused
    base.mkdir()  # another message, were it looked at
    assert attempt() == refused
    (marker,) = keys(weed.client(), BUCKET, f"{PREFIX}/{tmp_path.name}/failures/4f7c2d10-run/")
    weed.client().delete_object(Bucket=BUCKET, Key=marker)
    assert attempt() != refused
    assert_secret_nowhere(weed, tmp_path)


TRAIN = """
import json, sys
from pathlib import Path
from undercut.steps import step
with step("finetune", output=sys.argv[2]):
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig
    finetune(Path(sys.argv[1]), Path(sys.argv[2]), FinetuneConfig(**json.loads(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], pytest.param(["torchrun"], marks=pytest.mark.resilience)])
def test_sigterm_leaves_a_stored_checkpoint(
    weed: Weed, small_data: Path, tiny_base: Path, tmp_path: Path, launcher: list[str]
) -> None:
    """Of the last step that was done, though the interval is an hour; within 15 s, by the store's clock."""
    settings = {"base_model": str(tiny_base), "epochs": 500, "batch_tokens": 128, "checkpoint_seconds": 3600}
    (tmp_path / "train.py").write_text(TRAIN)
    # As the installed script does, but surely in this environment.
    command = [sys.executable, *(["-m", "torch.distributed.run", "--nproc-per-node", "1"] if launcher else [])]
    command += [str(tmp_path / "train.py"), str(small_data), str(tmp_path / "model"), json.dumps(settings)]
    pod = {**environment(weed, tmp_path), "UNDERCUT_HOME": str(tmp_path / "disk")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=pod, stdout=log, stderr=log, start_new_session=True)
    wait_for_step(tmp_path, 1, process)
    time.sleep(0.5)
    sent = time.time()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=60)
    client = weed.client()
    (state,) = (k for k in keys(client, BUCKET, f"{PREFIX}/{tmp_path.name}/") if k.endswith("state.json"))
    last = steps_done(read_events(tmp_path))[-1]
    failed = read_events(tmp_path)[-1]
    print(f"\n{failed['error']} (all ended {time.time() - sent:.1f} s after it)")
    assert json.loads(client.get_object(Bucket=BUCKET, Key=state)["Body"].read())["step"] == last.step
    assert client.head_object(Bucket=BUCKET, Key=state)["LastModified"].timestamp() - sent <= 15
    assert failed["error"].startswith(f"ended by request: the checkpoint of step {last.step} was stored ")
    assert (code == 143) if not launcher else (code != 0)
    assert_secret_nowhere(weed, tmp_path)
