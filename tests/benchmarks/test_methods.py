"""Full fine-tuning against adapters at equal epochs: accuracy, parameters trained, seconds, bytes stored.

    UNDERCUT_BENCHMARK_ROWS=2000 UNDERCUT_BENCHMARK_EPOCHS=2 UNDERCUT_BENCHMARK_TEST_ROWS=1000 \
        .venv/bin/pytest tests/benchmarks/test_methods.py -m benchmark -s
"""

import csv
import importlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from undercut import artifacts
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.intervals import Interval, accuracy_interval
from undercut.predictors import load_predictor

pytestmark = pytest.mark.benchmark
ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_ROWS", "10003"))
TEST_ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_TEST_ROWS", "3080"))
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "6"))
METHODS = os.environ.get("UNDERCUT_BENCHMARK_METHODS", "full,lora,dora,adalora,prefix").split(",")


@dataclass(frozen=True, kw_only=True)
class Row:
    method: str
    learning_rate: float
    accuracy: Interval
    trained: int
    total: int
    seconds: float
    cpu_seconds: float
    stored: int


@pytest.fixture(scope="module")
def banking77(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ROWS rows, an eighth of them for validation, and the official test set."""
    folder = tmp_path_factory.mktemp("banking77")
    with (shared_data / "customer_service" / "banking77_train.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:ROWS])
    test = str(shared_data / "customer_service" / "banking77_test.csv")
    ingest(IngestConfig(source=str(folder / "rows.csv"), test_source=test), folder / "data")
    return folder / "data"


def accuracy(folder: Path, texts: list[str], labels: np.ndarray) -> Interval:
    predictor = load_predictor(folder, threads=torch.get_num_threads())
    order = np.argsort([len(text) for text in texts], kind="stable")
    correct = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), 64):
        rows = order[start : start + 64]
        correct[rows] = predictor.probabilities([texts[i] for i in rows]).argmax(axis=1) == labels[rows]
    return accuracy_interval(correct)


def measure(method: str, data: Path, root: Path) -> Row:
    # Every epoch is run and there is no second pass: the methods are compared at equal work.
    config = FinetuneConfig(method=method, epochs=EPOCHS, patience=EPOCHS, refit=False, checkpoint_seconds=0)
    model, adapter = root / method, root / f"{method}-adapter"
    wall, cpu = time.perf_counter(), time.process_time()
    manifest = finetune(data, model, config, adapter)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    texts, labels = artifacts.texts_and_labels(data, "test")
    asked = np.random.default_rng(0).permutation(len(texts))[:TEST_ROWS]
    stored = model if method == "full" else adapter
    return Row(
        method=method,
        learning_rate=config.learning_rate,
        accuracy=accuracy(model, [texts[i] for i in asked], labels[asked]),
        trained=manifest["trained_parameter_count"],
        total=manifest["parameter_count"],
        seconds=wall,
        cpu_seconds=cpu,
        stored=sum(p.stat().st_size for p in stored.glob("*.safetensors")),
    )


def test_methods_at_equal_epochs(banking77: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("peft")  # seconds of its own, which belong to no method
    rows = [measure(method, banking77, tmp_path) for method in METHODS]
    counts = artifacts.load(banking77, artifacts.DATASET)["rows"]
    with capsys.disabled():
        print(
            f"\nbanking77, {counts['train']:,} rows, {EPOCHS} epochs, {min(counts['test'], TEST_ROWS):,} test rows, "
            f"{torch.get_num_threads()} threads"
        )
        titles = f"{'trained':>12}{'share':>8}{'s':>7}{'CPU s':>7}{'stored':>11}"
        print(f"{'method':<9}{'rate':>8}{'accuracy':>10}{'95 % interval':>17}{titles}")
        for r in rows:
            interval = f"{r.accuracy.low:.3f} to {r.accuracy.high:.3f}"
            cost = f"{r.seconds:>7.0f}{r.cpu_seconds:>7.0f}{r.stored / 1e6:>8.2f} MB"
            share = f"{r.trained:>12,}{r.trained / r.total:>8.1%}"
            print(f"{r.method:<9}{r.learning_rate:>8.0e}{r.accuracy.value:>10.3f}{interval:>17}{share}{cost}")
