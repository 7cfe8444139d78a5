"""Pretraining against the script that people write first: tokens a second, and loss after the same tokens.

The plain script: one paragraph a row, padded to 128 tokens, the output layer at every position, fp32, AdamW
not fused. ``packed`` is the better plain script, rows of joined paragraphs as transformers' example ``run_mlm``
makes them, otherwise the same. Tokens are real tokens, padding does not count. All have the same model (BERT
mini), vocabulary, learning rate and share of masked tokens.

Sized for less than eight minutes on two quiet cores. Other sizes: ``UNDERCUT_BENCHMARK_SECONDS`` (of a timing; six
times as long for Shakespeare), ``UNDERCUT_BENCHMARK_ROUNDS``, ``UNDERCUT_BENCHMARK_TOKENS`` (of the losses).
"""

import contextlib
import gzip
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast
from undercut import artifacts, corpus
from undercut.batching import ShuffledBatches
from undercut.fitting import FitConfig, fit
from undercut.optimization import choose_precision
from undercut.pretrain.architectures import build
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.settings import PretrainConfig
from undercut.pretrain.vocabulary import train_tokenizer
from undercut.tasks.masked_lm import MaskedLM
from undercut.training import LoopConfig

pytestmark = pytest.mark.benchmark
ROUNDS = int(os.environ.get("UNDERCUT_BENCHMARK_ROUNDS", "3"))
SECONDS = float(os.environ.get("UNDERCUT_BENCHMARK_SECONDS", "15"))
TOKENS = int(os.environ.get("UNDERCUT_BENCHMARK_TOKENS", "100000"))
LENGTH, BATCH_TOKENS, LEARNING_RATE = 128, 4096, 5e-4


def paragraphs(path: Path) -> list[str]:
    text = gzip.decompress(path.read_bytes()).decode("utf-8").replace("\r\n", "\n")
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def dataset(folder: Path, texts: list[str]) -> Path:
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": texts}), folder / "unlabelled.parquet")
    artifacts.seal(folder, artifacts.DATASET, {"labels": [], "rows": {"unlabelled": len(texts)}})
    return folder


@pytest.fixture(scope="module")
def text(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gutenberg")
    texts = paragraphs(shared_data / "corpora" / "gutenberg7_train.txt.gz")
    held = paragraphs(shared_data / "corpora" / "gutenberg1_valid.txt.gz")[:1000]
    data = dataset(folder / "data", texts)
    train_tokenizer([data / "unlabelled.parquet"], "wordpiece", 30522, True).save(str(folder / "tokenizer.json"))
    task = MaskedLM(folder, LENGTH, "token", 0.15)
    rows = corpus.tokenize(data, task.tokenizer, folder / "tokens", LENGTH, task.begin, task.end, 100).train
    return {"task": task, "rows": rows, "texts": texts, "held": task.encode(held, np.zeros(0)), "folder": folder}


class Clock:
    """Ends a loop by raising once its seconds or tokens are used."""

    def __init__(self, seconds: float, tokens: float) -> None:
        self.limits, self.tokens, self.steps, self.started = (seconds, tokens), 0, 0, time.perf_counter()

    def add(self, tokens: int) -> None:
        self.tokens += tokens
        self.steps += 1
        if self.elapsed() > self.limits[0] or self.tokens >= self.limits[1]:
            raise TimeoutError

    def elapsed(self) -> float:
        return time.perf_counter() - self.started


def model(text: dict[str, Any]) -> Any:
    return build("bert", "mini", text["task"].tokenizer.get_vocab_size(), LENGTH, seed=0)


def plain(text: dict[str, Any], clock: Clock, batch: int, packed: bool = False) -> torch.nn.Module:
    """Train as most scripts do; ``batch`` paragraphs a step, or rows of joined ones."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(text["folder"] / "tokenizer.json"), pad_token="[PAD]", mask_token="[MASK]",
        cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
    )  # fmt: skip
    torch.set_float32_matmul_precision("highest")
    net = model(text).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    rows = text["rows"].ids
    order = np.random.default_rng(0).permutation(len(rows) if packed else len(text["texts"]))
    torch.manual_seed(0)
    clock.started = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        for start in range(0, len(order), batch):
            here = order[start : start + batch]
            if packed:
                examples = [{"input_ids": rows[i].tolist(), "attention_mask": [1] * LENGTH} for i in here]
            else:
                found = tokenizer(
                    [text["texts"][i] for i in here], padding="max_length", truncation=True, max_length=LENGTH
                )
                examples = [{k: found[k][i] for k in ("input_ids", "attention_mask")} for i in range(len(here))]
            inputs = collate(examples)
            loss = net(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            clock.add(int(inputs["attention_mask"].sum()))
    return net.eval()


class CountingTask:
    """Undercut's own task; counts tokens as batches are asked for."""

    def __init__(self, task: MaskedLM, clock: Clock) -> None:
        self.task, self.clock, self.waiting = task, clock, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def collate(self, encoded: Any, indices: np.ndarray) -> Any:
        self.clock.add(self.waiting)
        self.waiting = len(indices) * LENGTH
        return self.task.collate(encoded, indices)


def ours(text: dict[str, Any], clock: Clock, folder: Path, batch_tokens: int = BATCH_TOKENS) -> torch.nn.Module:
    """Undercut's ``fit``; constant learning rate after the first step, as the plain script."""
    net, rows = model(text), text["rows"]
    loop = LoopConfig(epochs=1, learning_rate=LEARNING_RATE, checkpoint_seconds=0, warmup_fraction=0)
    order = ShuffledBatches(len(rows.labels), batch_tokens // LENGTH, 0, 100_000, seed=0)
    task = CountingTask(text["task"], clock)
    clock.started = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        fit(net, task, rows, None, FitConfig(loop=loop), folder, batches=lambda _: order)
    return net.eval()


def test_masked_tokens_a_second(text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speeds: dict[str, list[float]] = {
        "plain, batch 8": [],
        "plain, batch 32": [],
        "packed, batch 32": [],
        "Undercut": [],
    }
    for turn in range(ROUNDS):
        for name in speeds:
            clock = Clock(SECONDS, float("inf"))
            if name == "Undercut":
                ours(text, clock, tmp_path / str(turn))
            else:
                plain(text, clock, int(name.split()[-1]), packed=name.startswith("packed"))
            speeds[name].append(clock.tokens / clock.elapsed())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    with capsys.disabled():
        print(f"\nmasked LM, BERT mini, {torch.get_num_threads()} threads, {ROUNDS} rounds of {SECONDS:.0f} s, medians")
        for name, speed in medians.items():
            print(f"{name:<18}{speed:>8.0f} tokens/s{medians['Undercut'] / speed:>8.1f}x as fast is Undercut")


def test_loss_after_the_same_tokens(text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both make steps of about as many tokens: what the plain script's 32 paragraphs have."""
    untrained = loss(text, model(text).eval())
    first, second = (Clock(float("inf"), TOKENS) for _ in range(2))
    nets = [plain(text, first, 32)]
    speeds = [first.tokens / first.elapsed()]
    nets.append(ours(text, second, tmp_path / "ours", first.tokens // first.steps // LENGTH * LENGTH))
    speeds.append(second.tokens / second.elapsed())
    losses = [loss(text, net) for net in nets]
    with capsys.disabled():
        print(f"\nloss at masked tokens of an eighth novel after the same tokens of seven; {untrained:.3f} untrained")
        for name, clock, speed, value in zip(
            ("plain, batch 32", "Undercut"), (first, second), speeds, losses, strict=True
        ):
            print(f"{name:<18}{clock.tokens:>9,} tokens{clock.steps:>6} steps{speed:>8.0f} tokens/s{value:>8.3f}")
        print(f"Undercut has {speeds[1] / speeds[0]:.1f} times the tokens a second")


def loss(text: dict[str, Any], net: torch.nn.Module) -> float:
    return float(text["task"].metrics(net, text["held"], choose_precision("cpu"))["loss"])


def test_a_causal_model_of_shakespeare(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (shared_data / "corpora" / "tinyshakespeare.txt").read_text("utf-8")
    speeches = [part for part in content.split("\n\n") if part.strip()]
    config = PretrainConfig(
        architecture="gpt2", size="mini", tokenizer="bpe", vocabulary_size=2048, epochs=3,
        batch_tokens=2048, max_seconds=SECONDS * 6,
    )  # fmt: skip
    metrics = pretrain(dataset(tmp_path / "data", speeches), tmp_path / "model", config)["metrics"]
    with capsys.disabled():
        print(f"\nTiny Shakespeare, GPT-2 mini, {metrics['tokens_seen']:,} tokens seen, {config.max_seconds:.0f} s")
        for point in metrics["curve"]:
            bits = point["validation_bits_per_byte"]
            print(f"step {point['step']:>5}  loss {point['validation_loss']:.3f}  {bits:.2f} bits a byte")
        print(metrics["sample"])
