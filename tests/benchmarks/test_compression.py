"""What each candidate keeps of the fine-tuned model's accuracy, how much faster and smaller it is: banking77.

    UNDERCUT_SHARED_DATA=… .venv/bin/pytest tests/benchmarks/test_compression.py -m benchmark -s

Speed is text in to label out on one thread, tokenising included, at batch 1 and 32, against PyTorch in fp32,
all candidates in turns. With ``UNDERCUT_BENCHMARK_FOLDER`` models are kept there, and an interrupted run goes on.
"""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from undercut import artifacts
from undercut.candidates import parse_candidates
from undercut.compress.structures import compress
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.profile.measure import ProfileConfig, profile
from undercut.quantize.export import QuantizeConfig, quantize

pytestmark = pytest.mark.benchmark
ROUNDS = int(os.environ.get("UNDERCUT_BENCHMARK_ROUNDS", "5"))
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "5"))
ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_ROWS", "10003"))
TEST_ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_TEST_ROWS", "3080"))
BASELINE = "finetuned/as-is"
CANDIDATES = os.environ.get(
    "UNDERCUT_BENCHMARK_CANDIDATES",
    "finetuned/as-is finetuned/fp32 finetuned/int8 finetuned/int8-static finetuned/int8-mixed distilled-3/int8 "
    "distilled-2/int8 pruned-4x50/int8 pruned-4x50x50/int8 linear linear-teacher static",
).split()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are made; a folder of your own keeps them for the next time, apart by what they are made of."""
    kept = os.environ.get("UNDERCUT_BENCHMARK_FOLDER")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("compression")
    return folder / f"{ROWS}-{TEST_ROWS}-rows-{EPOCHS}-epochs"


def make(folder: Path, work: Callable[[], object]) -> Path:
    """Have ``folder`` made, unless an earlier run has finished it; what an interrupted one left is removed."""
    if artifacts.manifest_name(folder) is None:
        if folder.exists():
            shutil.rmtree(folder)
        work()
    return folder


def sample(source: Path, target: Path, rows: int) -> str:
    """Write ``rows`` of a CSV file's rows, chosen by seed 0, to another; returns its path."""
    with source.open(encoding="utf-8") as stream:
        header, *found = list(csv.reader(stream))
    kept = np.sort(np.random.default_rng(0).permutation(len(found))[:rows])
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *(found[i] for i in kept)])
    return str(target)


def candidate(root: Path, name: str) -> Path:
    """Make one candidate, unless an earlier run has."""
    (parsed,) = parse_candidates([name])
    structure, servable = root / parsed.structure, root / f"{parsed.structure}.{parsed.precision}"
    data, config = root / "data", QuantizeConfig(precision=parsed.precision)
    make(structure, lambda: compress(parsed.structure, root / "teacher", data, structure, seed=0))
    return make(servable, lambda: quantize(structure, data, servable, config))


def measured(root: Path, model: Path) -> artifacts.Manifest:
    """Evaluate a candidate, unless an earlier run has."""
    output, config = root / f"{model.name}.evaluation", EvaluateConfig(robustness_rows=0)
    make(output, lambda: evaluate(model, root / "data", output, config))
    return artifacts.load(output, artifacts.EVALUATION)


def test_candidates_on_banking77(
    shared_data: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(root / "home"))
    source, data, teacher = shared_data / "customer_service", root / "data", root / "teacher"
    train = sample(source / "banking77_train.csv", root / "rows" / "train.csv", ROWS)
    test = sample(source / "banking77_test.csv", root / "rows" / "test.csv", TEST_ROWS)
    make(data, lambda: ingest(IngestConfig(source=train, test_source=test), data))
    make(teacher, lambda: finetune(data, teacher, FinetuneConfig(epochs=EPOCHS)))
    names = [BASELINE, *(name for name in CANDIDATES if name != BASELINE)]
    models = [candidate(root, name) for name in names]
    figures = [measured(root, model) for model in models]
    profiles = profile(models, teacher, data, root / "profiles", ProfileConfig(rounds=ROUNDS))
    with capsys.disabled():
        print_table(figures, profiles)


def print_table(figures: list[artifacts.Manifest], profiles: artifacts.Manifest) -> None:
    first, reference = figures[0]["metrics"]["accuracy"]["value"], profiles["profiles"][0]["batches"]
    machine = profiles["machine"]["cpu"]
    print(f"\nbanking77, {figures[0]['n']:,} test rows, one thread of {machine}, tokenising included")
    print(f"{'candidate':24}{'accuracy (95 %)':>24}{'of first':>9}{'req/s, 1':>16}{'req/s, 32':>16}{'MB':>7}")
    for figure, speeds in zip(figures, profiles["profiles"], strict=True):
        if figure["lost"]:
            print(f"{figure['candidate']:24}lost: {figure['lost']}")
            continue
        accuracy = figure["metrics"]["accuracy"]
        interval = f"{accuracy['value']:.4f} {accuracy['low']:.4f}-{accuracy['high']:.4f}"
        cells = ""
        for batch in ("1", "32"):
            speed = speeds["batches"][batch]["requests_per_second"]
            cells += f"{speed:8,.0f} {speed / reference[batch]['requests_per_second']:6.1f}x"
        share = accuracy["value"] / first
        print(f"{figure['candidate']:24}{interval:>24}{share:>9.1%}{cells}{speeds['bytes'] / 1e6:7.1f}")
