import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.predictors import BatchTokenizer
from undercut.profile.measure import ProfileConfig, Worker, measure_in_turns, profile

QUICK = ProfileConfig(rounds=2, seconds_per_cell=0.02)


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the profiling processes that a process has started and that still run."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "undercut.profile.worker" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert workers_of(os.getpid()) == []


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A model folder with the base model's tokenizer, by which tokens are counted."""
    folder = tmp_path_factory.mktemp("counting")
    artifacts.copy_files(tiny_base, folder, ["tokenizer.json"])
    artifacts.seal(folder, artifacts.MODEL, {"max_length": 6})
    return folder


def test_every_candidate_is_measured_and_a_lost_one_passed_over(
    small_data: Path,
    linear_model: Path,
    counting: Path,
    make_linear_model: Callable,
    lost_model: Callable,
    tmp_path: Path,
) -> None:
    models = [linear_model, lost_model(tmp_path / "lost", "finetuned", "int8"), tmp_path / "other"]
    make_linear_model(models[2], small_data, rows=50)
    profile(models, counting, small_data, tmp_path / "profiles", QUICK)
    card = artifacts.verify(tmp_path / "profiles", artifacts.PROFILES)
    first, lost, other = card["profiles"]
    digests = [artifacts.load(model, artifacts.MODEL)["digest"] for model in models]
    assert [row["model"] for row in card["profiles"]] == digests
    assert lost == {"candidate": "finetuned/int8", "model": digests[1], "lost": "it answers differently", "bytes": 0}
    for row in (first, other):
        assert sorted(row["batches"]) == ["1", "32"]
        for figures in row["batches"].values():
            latency = figures["latency_ms"]
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert row["peak_memory_bytes"] > 20e6
    assert first["bytes"] == sum(p.stat().st_size for p in linear_model.iterdir() if p.name != artifacts.MODEL)
    assert (card["hardware"], card["rounds"], card["threads"]) == ("cpu-core", 2, 1)
    assert card["machine"]["memory_bytes"] == psutil.virtual_memory().total


def test_tokens_are_counted_as_the_base_model_cuts_them(
    small_data: Path, counting: Path, lost_model: Callable[..., Path], tmp_path: Path
) -> None:
    lost = lost_model(tmp_path / "lost")
    card = profile([lost], counting, small_data, tmp_path / "profiles", QUICK)
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    lengths = [len(ids) for ids in BatchTokenizer(counting, 6).ids(texts)]
    assert max(lengths) == 6
    assert card["tokens_per_request"] == pytest.approx(np.mean(lengths))


def test_each_round_counts_but_the_first(small_data: Path, linear_model: Path, tmp_path: Path) -> None:
    texts = ["where is my refund", "cancel"]
    first, second = measure_in_turns([linear_model, linear_model], texts, QUICK)
    for worker in (first, second):
        assert {batch: len(speeds) for batch, speeds in worker.speeds.items()} == {1: 2, 32: 2}
        answered = sum(len(latencies) * batch for batch, latencies in worker.latencies.items())
        # The warm-up's requests are in the position, not in the figures.
        assert worker.position > answered > 0
        assert worker.process.returncode == 0


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    (tmp_path / "texts.json").write_text(json.dumps(["where is my refund"] * 40))
    return tmp_path / "texts.json"


def a_core() -> int:
    return max(os.sched_getaffinity(0))


def test_memory_is_the_candidates_own(linear_model: Path, texts_file: Path) -> None:
    """A process inherits the peak of the one that started it, as Linux counts ``ru_maxrss``."""
    ballast = bytearray(600_000_000)
    worker = Worker(linear_model, texts_file, a_core())
    worker.read()
    worker.work(1, 0.01)
    worker.end()
    assert len(ballast) == 600_000_000
    assert 20e6 < worker.peak_memory < 400e6


def test_a_worker_runs_on_one_core_and_one_thread(linear_model: Path, texts_file: Path) -> None:
    worker = Worker(linear_model, texts_file, a_core())
    worker.read()
    process = psutil.Process(worker.process.pid)
    assert process.cpu_affinity() == [a_core()]
    worker.end()
    assert worker.process.returncode == 0


def test_a_worker_that_died_says_which_candidate_it_was(linear_model: Path, texts_file: Path) -> None:
    worker = Worker(linear_model, texts_file, a_core())
    worker.read()
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(RuntimeError, match="the process that profiles linear/as-is ended with code -9"):
        worker.work(1, 0.01)
    worker.end()


def test_if_one_dies_while_others_work_none_is_left(
    linear_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("UNDERCUT_EVENTS", str(events))

    def kill_the_second() -> None:
        while not events.exists() or events.read_text().count('"progress"') < 3:
            time.sleep(0.01)
        sorted(workers_of(os.getpid()), key=lambda p: p.pid)[1].kill()

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(RuntimeError, match="ended with code -9"):
        measure_in_turns([linear_model] * 3, ["a refund", "b"], ProfileConfig(rounds=10_000, seconds_per_cell=0.02))
    killer.join()
    assert workers_of(os.getpid()) == []


def test_a_model_that_does_not_load_ends_the_others(
    small_data: Path, linear_model: Path, make_linear_model: Callable, tmp_path: Path
) -> None:
    broken = make_linear_model(tmp_path / "broken", small_data, rows=50)
    (broken / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(RuntimeError, match="linear/as-is ended with code 1"):
        measure_in_turns([linear_model, broken, linear_model], ["a refund"], QUICK)
    assert workers_of(os.getpid()) == []


PROFILE = """
import sys
from pathlib import Path
from undercut.profile.measure import ProfileConfig, measure_in_turns
measure_in_turns([Path(sys.argv[1])] * 2, ["a", "b"], ProfileConfig(rounds=10_000, seconds_per_cell=0.02))
"""


@pytest.mark.slow
def test_workers_die_with_the_step_that_started_them(linear_model: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    step = subprocess.Popen(
        [sys.executable, "-c", PROFILE, str(linear_model)], env={**os.environ, "UNDERCUT_EVENTS": str(events)}
    )
    while not events.exists() or '"progress"' not in events.read_text():
        assert step.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    workers = workers_of(step.pid)
    assert len(workers) == 2
    step.send_signal(signal.SIGKILL)
    step.wait()
    _gone, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.parametrize(("setting", "value"), [("rounds", 0), ("seconds_per_cell", 0.0), ("seconds_per_cell", -1.0)])
def test_a_wrong_setting_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: got"):
        ProfileConfig(**{setting: value})  # type: ignore[arg-type]
