"""What a search costs: epochs of training until a validation accuracy is reached, by three ways to search.

Undercut's (TPE and successive halving) against random search that stops nothing and against Optuna's own TPE with
its HyperbandPruner, on ten labels of banking77 and the first layer of MiniLM. All three start from the same defaults,
search the same ranges, which are those of tune, and train the same way; an epoch of a trial that was stopped early
counts like any other. A figure is had when its trial has finished: what was stopped is no result.

    UNDERCUT_SHARED_DATA=… OMP_NUM_THREADS=1 nice -n 19 \
        .venv/bin/pytest tests/benchmarks/test_tuning.py -m benchmark -s

UNDERCUT_BENCHMARK_FOLDER keeps each study as it ends, so that seeds (UNDERCUT_BENCHMARK_SEEDS) can be run apart.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from transformers import AutoModel
from transformers.utils import logging as transformers_logging
from undercut import artifacts
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.storage import local_path
from undercut.tune.settings import TuneConfig
from undercut.tune.space import SeededSampler, pruner
from undercut.tune.trials import Material, objective, prepare

pytestmark = pytest.mark.benchmark
LAYERS = int(os.environ.get("UNDERCUT_BENCHMARK_LAYERS", "1"))
ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_ROWS", "300"))
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "60"))
TARGET = float(os.environ.get("UNDERCUT_BENCHMARK_TARGET", "0.80"))
SEEDS = [int(seed) for seed in os.environ.get("UNDERCUT_BENCHMARK_SEEDS", "0 1 2 3 4").split()]
SEARCHES = os.environ.get("UNDERCUT_BENCHMARK_SEARCHES", "undercut random hyperband").split()
NAMES = {
    "undercut": "Undercut: TPE, successive halving",
    "random": "random search, nothing stopped",
    "hyperband": "Optuna: TPE, HyperbandPruner",
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """One study: after how many epochs in all each trial ended, and its figure if it finished."""

    name: str
    seed: int
    spent: Sequence[int]
    values: Sequence[float | None]
    seconds: float

    def epochs_to(self, target: float) -> float:
        """Return the epochs spent when a trial had finished at ``target`` or above; infinite if none did."""
        pairs = zip(self.spent, self.values, strict=True)
        reached = [n for n, value in pairs if value is not None and value >= target and n <= EPOCHS]
        return min(reached, default=float("inf"))

    def best(self) -> float:
        """Return the best figure had within the budget."""
        return max(v for n, v in zip(self.spent, self.values, strict=True) if v is not None and n <= EPOCHS)

    @property
    def stopped(self) -> int:
        """Return how many trials were stopped early."""
        return sum(value is None for value in self.values)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of MiniLM-L6."""
    source, folder = local_path(TuneConfig().base_model, "base_model"), tmp_path_factory.mktemp("base")
    model = AutoModel.from_pretrained(source, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    model.encoder.layer = model.encoder.layer[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(folder)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def banking77(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every eighth label: ROWS rows to train on, as many to validate, none in both; the others are the test split."""
    folder = tmp_path_factory.mktemp("banking77")
    with (shared_data / "customer_service" / "banking77_train.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = set(sorted({row["label"] for row in rows})[::8])
    rows = [row for row in rows if row["label"] in labels]
    order = np.random.default_rng(0).permutation(len(rows))
    for split, indices in zip(artifacts.SPLITS, np.split(order, [ROWS, 2 * ROWS]), strict=True):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[i] for i in indices)
    train, validation, test = (str(folder / f"{split}.csv") for split in artifacts.SPLITS)
    ingest(IngestConfig(source=train, validation_source=validation, test_source=test), folder / "data")
    return folder / "data"


def study(name: str, config: TuneConfig) -> optuna.Study:
    """Return a study that has not begun; the defaults are the first trial of each."""
    sampler: optuna.samplers.BaseSampler = SeededSampler(config)
    stopper = pruner(config)
    if name == "random":
        sampler, stopper = optuna.samplers.RandomSampler(seed=config.seed), optuna.pruners.NopPruner()
    elif name == "hyperband":
        sampler = optuna.samplers.TPESampler(seed=config.seed)
        stopper = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=config.epochs_high)
    # Hyperband deals trials out to its brackets by the study's name.
    made = optuna.create_study(
        study_name=f"{name}-{config.seed}", sampler=sampler, pruner=stopper, direction="maximize"
    )
    made.enqueue_trial(config.defaults)
    return made


def run(name: str, material: Material, config: TuneConfig) -> Search:
    """Run trials until the epochs are used up; the one that passes the budget does not count."""
    begun, this = time.perf_counter(), study(name, config)
    spent: list[int] = []
    while not spent or spent[-1] < EPOCHS:
        this.optimize(lambda trial: objective(trial, this, material, config), n_trials=1)
        spent.append(sum(len(t.user_attrs["curve"]) for t in this.trials))
    values = [t.value if t.state is TrialState.COMPLETE else None for t in this.trials]
    return Search(name=name, seed=config.seed, spent=spent, values=values, seconds=time.perf_counter() - begun)


def search(name: str, seed: int, data: Path, base: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Search:
    """Run a study and say how it went, unless it is kept of an earlier time."""
    kept = Path(os.environ.get("UNDERCUT_BENCHMARK_FOLDER", folder)) / f"tuning-{name}-{seed}.json"
    if kept.is_file():
        return Search(**json.loads(kept.read_text(encoding="utf-8")))
    config = TuneConfig(base_model=str(base), trials=10**6, max_length=64, checkpoint_seconds=0, seed=seed)
    ended = run(name, prepare(data, base, config, folder / "checkpoints"), config)
    artifacts.write_json(kept, asdict(ended))
    with capsys.disabled():
        trials = f"{len(ended.values)} trials, {ended.stopped} stopped, {ended.seconds:.0f} s"
        print(f"{name}, seed {seed}: {ended.epochs_to(TARGET):.0f} epochs, best {ended.best():.3f}, {trials}")
    return ended


def middle(values: Sequence[float], digits: int) -> str:
    """Return the median and the range."""
    low, high = (f"{v:.{digits}f}" if np.isfinite(v) else f"over {EPOCHS}" for v in (min(values), max(values)))
    median = float(np.median(values))
    shown = f"{median:.{digits}f}" if np.isfinite(median) else f"over {EPOCHS}"
    return f"{shown} ({low} to {high})"


def test_searches_on_banking77(banking77: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found = [search(name, seed, banking77, base, tmp_path, capsys) for seed in SEEDS for name in SEARCHES]
    card = artifacts.load(banking77, artifacts.DATASET)
    rows = card["rows"]
    with capsys.disabled():
        print(
            f"\n{len(card['labels'])} labels of banking77, {rows['train']} rows to train on, {rows['validation']} to "
            f"validate on, MiniLM's first {LAYERS} layers, {EPOCHS} epochs a search, seeds {', '.join(map(str, SEEDS))}: median (range)"
        )
        print(f"{'search':<36}{f'epochs to {TARGET:.2f}':>24}{'best accuracy':>26}{'trials':>18}{'s':>7}")
        for name in SEARCHES:
            these = [s for s in found if s.name == name]
            epochs = middle([s.epochs_to(TARGET) for s in these], 0)
            best = middle([s.best() for s in these], 3)
            trials = middle([len(s.values) for s in these], 0)
            seconds = np.median([s.seconds for s in these])
            print(f"{NAMES[name]:<36}{epochs:>24}{best:>26}{trials:>18}{seconds:>7.0f}")
