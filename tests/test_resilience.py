"""What a killed pod loses: tasks under a stand-in for KFP's launcher, checkpoints on a real S3 server.

The small test runs always; ``make test-resilience`` runs the long ones, which print what they measured.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts

from tests.attempts import (
    BUCKET,
    PREFIX,
    RUN,
    SECRET,
    Done,
    assert_secret_nowhere,
    environment,
    lost,
    read_events,
    running,
    steps_done,
    wait_for_step,
)
from tests.conftest import clean_environment
from tests.launcher import Task
from tests.seaweedfs import Weed, keys, serving


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed"), SECRET) as server:
        server.bucket(BUCKET)
        yield server


def compiled(folder: Path) -> Path:
    from kfp import compiler
    from undercut.finetune.component import finetune as component

    compiler.Compiler().compile(component, str(folder / "finetune.yaml"))
    return folder / "finetune.yaml"


def unkilled(folder: Path, arguments: dict[str, Any], data: Path) -> artifacts.Manifest:
    """Return the model of one attempt, in a process like those that are killed: of as many threads as they have."""
    outputs = folder / "unkilled"
    task = Task(component=compiled(folder), arguments=arguments, inputs={"data": data}, outputs=outputs)
    with running(task.start(folder / "whole-disk", clean_environment(), folder / "whole-log")) as process:
        assert process.wait() == 0, (folder / "whole-log").read_text()[-3000:]
    return artifacts.verify(task.output("model"), artifacts.MODEL)


def killed_and_resumed(folder: Path, task: Task, weed: Weed, kills: int, longest: float) -> list[Done]:
    """Kill a task so many times, each at a random moment of its training, and let it end; an empty disk each time."""
    moments = random.Random(0)
    for attempt in range(1, kills + 2):
        with running(task.start(folder / f"disk-{attempt}", environment(weed, folder), folder / "log")) as process:
            if attempt > kills:
                assert process.wait() == 0, (folder / "log").read_text()[-3000:]
                break
            wait_for_step(folder, attempt, process)
            time.sleep(moments.uniform(0.1, longest))
            process.terminate()
            assert process.wait() == -signal.SIGKILL, f"attempt {attempt} ended before it was killed"
    return steps_done(read_events(folder))


@pytest.mark.resilience
def test_a_step_killed_again_and_again_ends_with_the_same_weights(
    weed: Weed, small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    kills, epochs, interval = 20, 250, 2.0  # long enough for twenty on a fast machine
    settings: dict[str, Any] = {"base_model": str(tiny_base), "epochs": epochs, "patience": epochs}
    settings |= {"learning_rate": 3e-4, "batch_tokens": 128, "train_embeddings": True}
    undisturbed = unkilled(tmp_path, {**settings, "checkpoint_seconds": 0.0}, small_data)
    arguments = {**settings, "checkpoint_seconds": interval}
    outputs = tmp_path / "artifacts" / RUN / "finetune" / "0b1d"
    task = Task(component=compiled(tmp_path), arguments=arguments, inputs={"data": small_data}, outputs=outputs)
    done = killed_and_resumed(tmp_path, task, weed, kills, 1.6 * interval)
    losses = [lost(done, attempt) for attempt in range(2, kills + 2)]
    print(f"\n{kills} kills, interval {interval} s, {done[-1].step} steps in the second pass")
    print("steps lost:  ", " ".join(str(steps) for steps, _ in losses))
    print("seconds lost:", " ".join(f"{seconds:.2f}" for _, seconds in losses))
    manifest = artifacts.verify(task.output("model"), artifacts.MODEL)
    assert manifest["digest"] == undisturbed["digest"]
    whole, resumed = (p / "model.safetensors" for p in (tmp_path / "unkilled" / "model", task.output("model")))
    assert whole.read_bytes() == resumed.read_bytes()
    assert max(seconds for _, seconds in losses) <= interval
    # Lost once more, after its end and before its outputs were uploaded: nothing is left to train.
    with running(task.start(tmp_path / "disk-again", environment(weed, tmp_path), tmp_path / "log")) as process:
        assert process.wait() == 0
    assert max(d.attempt for d in steps_done(read_events(tmp_path))) == kills + 1
    assert artifacts.verify(task.output("model"), artifacts.MODEL)["digest"] == undisturbed["digest"]
    assert_secret_nowhere(weed, tmp_path)


@pytest.mark.resilience
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
    (marker,) = keys(weed.client(), BUCKET, f"{PREFIX}/{tmp_path.name}/failures/{RUN}/")
    weed.client().delete_object(Bucket=BUCKET, Key=marker)
    assert attempt() != refused
    assert_secret_nowhere(weed, tmp_path)


TUNE = """
import json, sys
from pathlib import Path
from undercut.steps import step
with step("tune", output=sys.argv[2]):
    from undercut.tune.search import tune
    from undercut.tune.settings import TuneConfig
    tune(Path(sys.argv[1]), Path(sys.argv[2]), TuneConfig(**json.loads(sys.argv[3])))
"""


@pytest.mark.resilience
def test_a_killed_search_goes_on_from_an_empty_disk(
    weed: Weed, small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Killed in its second trial: the first is not run again, the second goes on, and all ends as undisturbed."""
    settings = {
        "base_model": str(tiny_base),
        "trials": 3,
        "epochs": 10,
        "epochs_low": 8,
        "train_embeddings": True,
        "seed": 1,
    }
    (tmp_path / "tune.py").write_text(TUNE)

    def start(name: str, disk: str, more: dict[str, str]) -> "subprocess.Popen[bytes]":
        given = json.dumps(settings | {"checkpoint_seconds": 0.1 if more else 0.0})
        pod = {**clean_environment(), **more, "UNDERCUT_HOME": str(tmp_path / disk)}
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, str(tmp_path / "tune.py"), str(small_data), str(tmp_path / name), given]
            return subprocess.Popen(command, env=pod, stdout=log, stderr=log)

    assert start("whole", "whole-disk", {}).wait() == 0
    pod = environment(weed, tmp_path)
    studies = f"{PREFIX}/{tmp_path.name}/studies/"
    with running(start("resumed", "first", pod)) as victim:
        while not [k for k in keys(weed.client(), BUCKET, studies) if "trial-1/" in k and k.endswith("state.json")]:
            assert victim.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
    assert start("resumed", "second", pod).wait() == 0
    again = [e["message"] for e in read_events(tmp_path) if e["type"] == "message"]
    assert sum(text.startswith("trial 1 of 3") for text in again) == 1
    assert any(text.startswith("resumed at step") for text in again)
    whole, resumed = (artifacts.verify(tmp_path / n, artifacts.TUNING) for n in ("whole", "resumed"))
    assert resumed["hyperparameters"] == whole["hyperparameters"]
    ended = [[t["value"] for t in m["trials"] if t["state"] != "failed"] for m in (whole, resumed)]
    assert ended[0] == ended[1]
    left = {name.split("/")[-1] for name in keys(weed.client(), BUCKET, f"{PREFIX}/{tmp_path.name}/")}
    assert left == {"study.db"}, "the study may be extended; its trials' checkpoints are gone"
