"""What continued pretraining on a task's own text buys downstream: SEntFiN's financial headlines.

    UNDERCUT_SHARED_DATA=… .venv/bin/pytest tests/benchmarks/test_transfer.py -m benchmark -s

For each seed the base goes on guessing hidden words of the training rows' headlines, labels unread, and two
classifiers are fine-tuned on the same labelled rows for the same epochs: one from the base, one from what came
of it. Both answer the same test rows, which neither saw. The interval of the difference is paired: rows are
resampled, and each carries the mean of its seeds.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from undercut import artifacts
from undercut.classifiers import correct_rows, train_classifier
from undercut.costs import LedgerEntry, Stopwatch, parse_price_book
from undercut.finetune.classifier import FinetuneConfig
from undercut.fitting import FitConfig
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.intervals import Interval, accuracy_interval, bootstrap, paired_difference
from undercut.storage import local_path
from undercut.tasks.text_classification import TextClassification
from undercut.training import LoopConfig
from undercut.transfer.domain_adaptation import transfer
from undercut.transfer.settings import TransferConfig

pytestmark = pytest.mark.benchmark
SEEDS = int(os.environ.get("UNDERCUT_BENCHMARK_SEEDS", "3"))
PASSES = int(os.environ.get("UNDERCUT_BENCHMARK_PASSES", "3"))
ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_ROWS", "2000"))
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "3"))
TEST_ROWS = int(os.environ.get("UNDERCUT_BENCHMARK_TEST_ROWS", "2000"))
LENGTH = 64
LEARNING_RATE = 3e-4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One seed: held-out perplexity before and after, right answers of both (rows,), the use of both stages."""

    perplexities: tuple[float, float]
    original: NDArray[np.bool_]
    transferred: NDArray[np.bool_]
    pretraining: LedgerEntry
    finetuning: LedgerEntry


@pytest.fixture(scope="module")
def headlines(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The headlines as a dataset folder, the training rows' texts again as its unlabelled text."""
    folder = tmp_path_factory.mktemp("sentfin")
    source = str(shared_data / "finance" / "sentfin_headline.csv")
    ingest(IngestConfig(source=source), folder / "labelled")
    text = artifacts.read_split(folder / "labelled", "train", ["text"])["text"].to_pylist()
    (folder / "text").mkdir()
    (folder / "text" / "headlines.txt").write_text("\n\n".join(text), encoding="utf-8")
    ingest(IngestConfig(unlabelled_source=str(folder / "text")), folder / "unlabelled")
    return folder


def one_seed(folder: Path, output: Path, seed: int) -> Outcome:
    base, data = local_path(FinetuneConfig.base_model, "base_model"), folder / "labelled"
    watch = Stopwatch("transfer")
    # The stage's own comparison is on validation rows; the one below is on test rows.
    config = TransferConfig(epochs=PASSES, sequence_length=LENGTH, comparison_rows=0, checkpoint_seconds=0, seed=seed)
    metrics = transfer(folder / "unlabelled", data, output / "transferred", config)["metrics"]
    pretraining = watch.entry()
    labels = artifacts.load(data, artifacts.DATASET)["labels"]
    task = TextClassification(base, LENGTH)
    splits = {}
    for split, limit in (("train", ROWS), ("test", TEST_ROWS)):
        texts, truth = artifacts.texts_and_labels(data, split)
        # The test rows are the same for all seeds, so that their answers can be averaged.
        generator = np.random.default_rng(seed if split == "train" else 0)
        kept = np.sort(generator.permutation(len(texts))[:limit])
        splits[split] = task.encode([texts[i] for i in kept], truth[kept])
    loop = LoopConfig(epochs=EPOCHS, learning_rate=LEARNING_RATE, checkpoint_seconds=0, seed=seed)
    settings, answers = FitConfig(loop=loop, batch_tokens=1024), []
    for name, start in (("original", base), ("transferred", output / "transferred")):
        watch = Stopwatch("finetune")
        model, _ = train_classifier(start, labels, task, splits["train"], None, settings, output / name / "fit")
        finetuning = watch.entry()
        answers.append(correct_rows(model, task, splits["test"]))
    return Outcome(
        perplexities=(metrics["before"]["perplexity"], metrics["perplexity"]),
        original=answers[0],
        transferred=answers[1],
        pretraining=pretraining,
        finetuning=finetuning,
    )


def over_seeds(outcomes: list[Outcome]) -> Interval:
    """Return the mean difference with its interval: rows are resampled, each with the sum of its seeds."""
    count = len(outcomes)
    sums = sum(o.transferred.astype(np.int64) - o.original.astype(np.int64) for o in outcomes)
    outcomes_of_rows = np.bincount(np.asarray(sums) + count, minlength=2 * count + 1)
    values = np.arange(-count, count + 1) / count
    return bootstrap(outcomes_of_rows, lambda counts: counts @ values / counts.sum(axis=1))


def test_what_continued_pretraining_buys(
    headlines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "home"))
    outcomes = []
    for seed in range(SEEDS):
        outcomes.append(one_seed(headlines, tmp_path / str(seed), seed))
        with capsys.disabled():
            if seed == 0:
                print_heading(headlines, len(outcomes[0].original))
            print_seed(str(seed), outcomes[-1])
    with capsys.disabled():
        print_sum(outcomes)


def print_heading(folder: Path, test_rows: int) -> None:
    text = artifacts.load(folder / "unlabelled", artifacts.DATASET)["rows"]["unlabelled"]
    rows = min(ROWS, artifacts.load(folder / "labelled", artifacts.DATASET)["rows"]["train"])
    print(
        f"\nSEntFiN: {PASSES} passes over {text:,} headlines; then {rows:,} labelled rows, {EPOCHS} epochs; "
        f"{test_rows:,} test rows; {torch.get_num_threads()} threads"
    )
    print(f"{'seed':<6}{'perplexity':>18}{'from base':>11}{'transferred':>13}{'points (95 %)':>26}", end="")
    print(f"{'pretraining':>24}{'fine-tuning':>24}")


def print_seed(name: str, found: Outcome) -> None:
    before, after = found.perplexities
    difference = paired_difference(found.transferred, found.original)
    print(
        f"{name:<6}{before:>9.1f} to {after:>5.1f}{found.original.mean():>11.3f}{found.transferred.mean():>13.3f}"
        f"{points(difference):>26}{use(found.pretraining):>24}{use(found.finetuning):>24}",
        flush=True,
    )


def print_sum(outcomes: list[Outcome]) -> None:
    original, transferred = (
        np.mean([getattr(o, name).mean() for o in outcomes]) for name in ("original", "transferred")
    )
    print(f"{'mean':<6}{'':>18}{original:>11.3f}{transferred:>13.3f}{points(over_seeds(outcomes)):>26}")
    chance = accuracy_interval(outcomes[0].original)
    print(f"(one accuracy alone, seed 0: {chance.value:.3f}, {chance.low:.3f} to {chance.high:.3f})")


def points(difference: Interval) -> str:
    return f"{100 * difference.value:+.2f} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"


def use(entry: LedgerEntry) -> str:
    """Return CPU-seconds, which other work on the machine does not stretch, and their price."""
    prices = Path(__file__).parents[2] / "pipelines" / "prices.yaml"
    book = parse_price_book(yaml.safe_load(prices.read_text(encoding="utf-8")))
    usd = entry["cpu_seconds"] / 3600 * book.usd_per_hour("cpu-core")
    return f"{entry['cpu_seconds']:.0f} CPU-s, ${usd:.5f}"
