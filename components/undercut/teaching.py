"""What a smaller model learns from: the texts, and what the fine-tuned model says about them.

The texts are the labelled training and validation rows and, where the dataset has a split
``unlabelled``, its texts too: a teacher can label what nobody has. Its answers are computed once.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from undercut import artifacts, events
from undercut.batching import length_batches
from undercut.predictors import BatchTokenizer, FloatArray, pad

UNLABELLED = -100
MAXIMUM_UNLABELLED = 40_000
BATCH_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A teacher's answers: ``logits`` (texts, labels); ``states`` (texts, layers, 2, hidden size).

    A text's states at a layer are the vector of its first token and the mean over its tokens, in float16.
    """

    logits: FloatArray
    states: NDArray[np.float16]

    def save(self, path: Path) -> None:
        """Write one safetensors file by rename."""
        partial = path.with_suffix(".partial")
        save_file({"logits": self.logits, "states": self.states}, partial)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what :meth:`save` wrote."""
        tensors = load_file(path)
        return cls(logits=tensors["logits"], states=tensors["states"])


def labelled_texts(data: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Return the texts and labels of train and validation together."""
    splits = [artifacts.texts_and_labels(data, split) for split in ("train", "validation")]
    return [text for part, _ in splits for text in part], np.concatenate([part for _, part in splits])


def teaching_texts(data: Path, seed: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return the texts to learn from, labelled ones first, and their labels (-100 where they are not known).

    Of unlabelled texts at most 40,000 are taken, chosen by ``seed``; those that are also labelled are
    left out.
    """
    texts, labels = labelled_texts(data)
    if not artifacts.split_files(data, "unlabelled"):
        return texts, labels
    column = artifacts.read_split(data, "unlabelled", ["text"])["text"]
    if len(column) > MAXIMUM_UNLABELLED:
        chosen = np.random.default_rng(seed).choice(len(column), MAXIMUM_UNLABELLED, replace=False)
        column = column.take(np.sort(chosen))
    known = set(texts)
    more = [text for text in dict.fromkeys(column.to_pylist()) if text not in known]
    events.message(f"{len(texts):,} labelled rows and {len(more):,} unlabelled texts to learn from")
    unknown = np.full((len(more), *labels.shape[1:]), UNLABELLED, dtype=np.int64)
    return texts + more, np.concatenate([labels, unknown])


def labelled_rows(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows have known labels, shape (rows,); ``labels`` are indices, or zeros and ones (rows, labels)."""
    known: NDArray[np.bool_] = labels.reshape(len(labels), -1)[:, 0] != UNLABELLED
    return known


def ask(teacher: Path, texts: Sequence[str], layers: Sequence[int] = ()) -> Answers:
    """Return the teacher's answers to ``texts``.

    Args:
        teacher: a sealed model folder in PyTorch format.
        texts: what to ask, in any order: they are batched by length.
        layers: the layers whose output is wanted, counted from zero.
    """
    import torch

    from undercut.encoders import load_classifier, pooled
    from undercut.fitting import device
    from undercut.optimization import choose_precision

    manifest = artifacts.verify(teacher, artifacts.MODEL)
    precision = choose_precision(device())
    model = load_classifier(teacher).train(False)
    torch.nn.Module.to(model, precision.device)
    ids = BatchTokenizer(teacher, manifest["max_length"]).ids(texts)
    logits = np.empty((len(texts), len(manifest["labels"])), dtype=np.float32)
    states = np.empty((len(texts), len(layers), 2, model.config.hidden_size), dtype=np.float16)
    done = 0
    for rows in length_batches(np.array([len(row) for row in ids]), BATCH_TOKENS, seed=None):
        batch, mask = (torch.from_numpy(a).to(precision.device) for a in pad([ids[i] for i in rows]))
        with torch.inference_mode(), precision.autocast():
            found = model(input_ids=batch, attention_mask=mask, output_hidden_states=bool(layers))
        logits[rows] = found.logits.float().cpu().numpy()
        if layers:
            wanted = [found.hidden_states[layer + 1] for layer in layers]
            states[rows] = pooled(wanted, mask).cpu().numpy()
        done += len(rows)
        events.progress(done, len(texts), "asking the teacher")
    return Answers(logits=logits, states=states)
