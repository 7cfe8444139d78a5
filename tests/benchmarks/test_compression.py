"""What each candidate keeps of the fine-tuned model's accuracy, how much faster and smaller it is: banking77."""

import os
from pathlib import Path

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
BASELINE = "finetuned/as-is"
CANDIDATES = os.environ.get(
    "UNDERCUT_BENCHMARK_CANDIDATES",
    "finetuned/as-is finetuned/fp32 finetuned/int8 finetuned/int8-static finetuned/int8-mixed distilled-3/int8 "
    "distilled-2/int8 linear linear-teacher static",
).split()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are made; a folder of your own keeps them for the next time."""
    kept = os.environ.get("UNDERCUT_BENCHMARK_FOLDER")
    return Path(kept) if kept else tmp_path_factory.mktemp("compression")


def made(folder: Path) -> bool:
    return artifacts.manifest_name(folder) is not None


def candidate(root: Path, name: str) -> Path:
    """Make one candidate, unless an earlier run has."""
    (parsed,) = parse_candidates([name])
    structure, servable = root / parsed.structure, root / f"{parsed.structure}.{parsed.precision}"
    if not made(structure):
        compress(parsed.structure, root / "teacher", root / "data", structure, seed=0)
    if not made(servable):
        quantize(structure, root / "data", servable, QuantizeConfig(precision=parsed.precision))
    return servable


def test_candidates_on_banking77(
    shared_data: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(root / "home"))
    source = shared_data / "customer_service"
    if not made(root / "data"):
        train, test = (str(source / f"banking77_{split}.csv") for split in ("train", "test"))
        ingest(IngestConfig(source=train, test_source=test), root / "data")
    if not made(root / "teacher"):
        finetune(root / "data", root / "teacher", FinetuneConfig(epochs=EPOCHS))
    names = [BASELINE, *(name for name in CANDIDATES if name != BASELINE)]
    models = [candidate(root, name) for name in names]
    figures = [evaluate(m, root / "data", root / f"{m.name}.evaluation", EvaluateConfig()) for m in models]
    profiles = profile(models, root / "teacher", root / "data", root / "profiles", ProfileConfig(rounds=ROUNDS))
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
