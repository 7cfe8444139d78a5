"""What a transferred base buys downstream: two fine-tunings at equal settings, compared row by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.classifiers import classification_task, correct_rows, train_classifier
from undercut.fitting import FitConfig
from undercut.intervals import paired_difference
from undercut.tasks.protocol import Encoded, Task
from undercut.training import LoopConfig
from undercut.transfer.settings import TransferConfig

LEARNING_RATE = 3e-4
BATCH_TOKENS = 1024
CONFIDENCE = 0.95


def compare(bases: Mapping[str, Path], data: Path, config: TransferConfig, folder: Path) -> dict[str, Any]:
    """Fine-tune a classifier from each of two bases and compare them on the validation split.

    Both see the same rows in the same order for the same number of epochs, and none is chosen by the rows
    that measure it. The test split stays unseen.

    Args:
        bases: ``original`` and ``transferred``: folders of encoders with the same tokenizer.
        data: dataset folder with labels.
        config: limits of the comparison, seed.
        folder: checkpoints.

    Returns:
        Both accuracies, the difference with its interval, ``worth_it`` and the ``reason``.
    """
    labels = artifacts.load(data, artifacts.DATASET)["labels"]
    held_labels = artifacts.texts_and_labels(data, "validation")[1]
    task = classification_task(bases["original"], config.sequence_length, held_labels, len(labels))
    rows, held = (_encoded(task, data, split, config) for split in ("train", "validation"))
    loop = LoopConfig(
        epochs=config.comparison_epochs,
        learning_rate=LEARNING_RATE,
        max_seconds=config.comparison_seconds,
        checkpoint_seconds=config.checkpoint_seconds,
        seed=config.seed,
    )
    settings = FitConfig(loop=loop, batch_tokens=BATCH_TOKENS)
    correct: dict[str, NDArray[np.bool_]] = {}
    stopped: dict[str, str] = {}
    for name, base in bases.items():
        events.message(f"comparison: fine-tuning from the {name} base on {len(rows.labels):,} rows")
        model, result = train_classifier(base, labels, task, rows, None, settings, folder / name)
        correct[name], stopped[name] = correct_rows(model, task, held), result.stopped_by
    return {
        **verdict(correct["original"], correct["transferred"], config.seed),
        "train_rows": len(rows.labels),
        "epochs": config.comparison_epochs,
        "stopped_by": stopped,
    }


def verdict(original: NDArray[np.bool_], transferred: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """Say whether the transferred base is better, from which rows (rows,) each classifier got right."""
    difference = paired_difference(transferred, original, CONFIDENCE, seed)
    found = (
        f"{100 * difference.value:+.2f} points of accuracy on {len(original):,} validation rows, "
        f"{CONFIDENCE:.0%} interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    )
    worth_it = difference.low > 0
    return {
        "accuracy": {"original": float(original.mean()), "transferred": float(transferred.mean())},
        "difference": difference.as_dict(),
        "rows": len(original),
        "worth_it": worth_it,
        "reason": f"{found}: {'better' if worth_it else 'not shown to be better'}",
    }


def _encoded(task: Task, data: Path, split: str, config: TransferConfig) -> Encoded:
    """Return at most ``comparison_rows`` rows of a split, drawn with the seed."""
    texts, labels = artifacts.texts_and_labels(data, split)
    kept = np.sort(np.random.default_rng(config.seed).permutation(len(texts))[: config.comparison_rows])
    return task.encode([texts[i] for i in kept], labels[kept])
