"""Speed, latency and memory of all candidates: one step, one node, one thread, in turns.

Each candidate sits loaded in its own process; one works at a time, on the same requests in the same
order, in rounds that alternate between candidates, so that a machine that slows down slows them all.
Text in to label out, tokenising included. The median of the rounds is the figure.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from undercut import artifacts, costs, events
from undercut.bar import TRAFFIC
from undercut.candidates import candidate_name
from undercut.errors import ConfigurationError
from undercut.predictors import BatchTokenizer

REQUESTS = 2000
END_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """Settings: each candidate works ``seconds_per_cell`` in each of ``rounds`` at each batch size."""

    hardware: str = "cpu-core"
    rounds: int = 5
    seconds_per_cell: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigurationError("rounds", self.rounds, "a whole number from 1")
        if self.seconds_per_cell <= 0:
            raise ConfigurationError("seconds_per_cell", self.seconds_per_cell, "seconds above 0")


class Worker:
    """A candidate's process, and what it has answered so far."""

    def __init__(self, folder: Path, texts_file: Path, core: int) -> None:
        command = [sys.executable, "-m", "undercut.profile.worker", str(folder), str(texts_file), str(core)]
        environment = {**os.environ, "UNDERCUT_RUN_PID": str(os.getpid())}
        self.name = candidate_name(artifacts.load(folder, artifacts.MODEL))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.latencies: dict[int, list[float]] = {batch: [] for batch in TRAFFIC.values()}
        self.speeds: dict[int, list[float]] = {batch: [] for batch in TRAFFIC.values()}
        self.position, self.peak_memory = 0, 0

    def read(self) -> str:
        """Return the next line of the worker's answers."""
        assert self.process.stdout is not None, "opened with a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise self._died()
        return line

    def _died(self) -> RuntimeError:
        return RuntimeError(f"the process that profiles {self.name} ended with code {self.process.wait()}: see its log")

    def work(self, batch: int, seconds: float, record: bool = True) -> None:
        """Let the candidate answer for some seconds."""
        assert self.process.stdin is not None, "opened with a pipe"
        command = {"batch": batch, "seconds": seconds, "start": self.position}
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error
        found = json.loads(self.read())
        self.position, self.peak_memory = found["position"], found["peak_memory_bytes"]
        if record:
            self.latencies[batch] += found["latencies"]
            self.speeds[batch].append(found["requests"] / sum(found["latencies"]))

    def end(self) -> None:
        """Close the worker's input, which ends it; one that does not end is killed."""
        assert self.process.stdin is not None, "opened with a pipe"
        assert self.process.stdout is not None, "opened with a pipe"
        with contextlib.suppress(BrokenPipeError):  # it died with a command unread, which close() would send again
            self.process.stdin.close()
        try:
            self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def profile(models: list[Path], teacher: Path, data: Path, output: Path, config: ProfileConfig) -> artifacts.Manifest:
    """Profile candidates against each other and seal a profiles folder.

    Args:
        models: servable model folders; lost ones are passed over.
        teacher: model folder with the base model's tokenizer, which counts the tokens of all.
        data: dataset folder; its test texts are the requests.
        output: where ``profiles.json`` goes.
        config: settings.
    """
    output.mkdir(parents=True, exist_ok=True)
    texts, _ = artifacts.texts_and_labels(data, "test")
    order = np.random.default_rng(config.seed).permutation(len(texts))[:REQUESTS]
    texts = [texts[i] for i in order]
    manifests = [artifacts.load(model, artifacts.MODEL) for model in models]
    alive = [i for i, manifest in enumerate(manifests) if not manifest["lost"]]
    workers = measure_in_turns([models[i] for i in alive], texts, config)
    by_index = dict(zip(alive, workers, strict=True))
    tokenizer = BatchTokenizer(teacher, artifacts.load(teacher, artifacts.MODEL)["max_length"])
    node = machine()
    content = {
        "hardware": config.hardware,
        "machine": node,
        "threads": 1,
        "rounds": config.rounds,
        "tokens_per_request": float(np.mean([len(ids) for ids in tokenizer.ids(texts)])),
        "profiles": [_figures(m, by_index.get(i)) for i, m in enumerate(manifests)],
    }
    events.message(f"{len(alive)} candidates in {config.rounds} rounds, on one thread of {node['cpu']}")
    return artifacts.seal(output, artifacts.PROFILES, content)


def measure_in_turns(models: list[Path], texts: list[str], config: ProfileConfig) -> list[Worker]:
    """Load every candidate, warm each up, then let them work in rounds."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        texts_file = Path(folder) / "texts.json"
        texts_file.write_text(json.dumps(texts), encoding="utf-8")
        events.message(f"loading {len(models)} candidates, each in a process of its own")
        workers = []
        for model in models:
            workers.append(Worker(model, texts_file, cores[-1]))
            processes.callback(workers[-1].end)
        for worker in workers:
            worker.read()
        total, done = (config.rounds + 1) * len(TRAFFIC) * len(workers), 0
        for turn in range(config.rounds + 1):
            for batch in TRAFFIC.values():
                for worker in workers:
                    # The first round warms caches up and is not counted.
                    worker.work(batch, config.seconds_per_cell / (1 if turn else 2), record=turn > 0)
                    done += 1
                    events.progress(done, total, f"round {turn} of {config.rounds}, batch {batch}")
    return workers


def machine() -> dict[str, Any]:
    """Describe this node: processor, cores, memory in bytes."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": costs.available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _figures(manifest: artifacts.Manifest, worker: Worker | None) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "candidate": candidate_name(manifest),
        "model": manifest["digest"],
        "lost": manifest["lost"],
        "bytes": manifest["bytes"],
    }
    if worker is None:
        return figures
    batches = {}
    for batch, speeds in worker.speeds.items():
        p50, p95, p99 = np.percentile(np.array(worker.latencies[batch]) * 1000, [50, 95, 99]).tolist()
        batches[str(batch)] = {
            "requests_per_second": statistics.median(speeds),
            "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        }
    return figures | {"batches": batches, "peak_memory_bytes": worker.peak_memory}
