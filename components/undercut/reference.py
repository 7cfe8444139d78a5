"""What is kept of the data that a registered model was made and measured on, to tell later whether the world moved.

``reference.safetensors`` holds samples (``samples.py``) of rows that the model never learnt from: of the test
split, and of the held-out unlabelled text where the dataset has such. ``known.safetensors`` holds keys of all
labelled texts, of the same with their labels, and of the training rows' words. No text is kept, and none can be
read out of the keys; but whoever has a text can tell from them whether it was among the rows.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from undercut import artifacts
from undercut.predictors import load_predictor
from undercut.samples import Progress, Sample, chosen_rows, key, measure, row_keys, scan, word_keys

ROWS = 1000  # a sample's at most
HELD_OUT_TRAFFIC = "unlabelled_validation"
TRAFFIC = ("unlabelled", HELD_OUT_TRAFFIC)
ARRAYS = "reference.safetensors"
KEYS = "known.safetensors"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A registered model's reference.

    Attributes:
        manifest: ``reference.json``: the model's and the dataset's digests, labels, rows, traffic.
        labelled: test rows.
        traffic: unlabelled rows, or None where the dataset had none.
        texts: keys of all labelled texts.
        learnt: keys of those of the training and validation rows.
        rows: keys of all labelled texts with their labels.
        words: keys of the training rows' words.
    """

    manifest: artifacts.Manifest
    labelled: Sample
    traffic: Sample | None
    texts: frozenset[int]
    learnt: frozenset[int]
    rows: frozenset[int]
    words: frozenset[int]


def write_reference(
    model: Path, data: Path, output: Path, seed: int = 0, progress: Progress | None = None
) -> artifacts.Manifest:
    """Measure a model on the rows of its dataset that it has not learnt from; seal a reference folder.

    Args:
        model: the model's folder.
        data: the dataset it was made from.
        output: where the reference goes.
        seed: chooses the rows.
        progress: see :func:`undercut.samples.measure`.
    """
    card = artifacts.load(data, artifacts.DATASET)
    predictor = load_predictor(model)
    output.mkdir(parents=True, exist_ok=True)
    words = frozenset(word for batch in scan(data, ["train"], ["text"]) for t in _texts(batch) for word in word_keys(t))
    keys: dict[str, list[int]] = {split: [] for split in artifacts.SPLITS}
    pairs: list[int] = []
    for split in artifacts.SPLITS:
        for batch in scan(data, [split], ["text", "label"]):
            keys[split] += map(key, _texts(batch))
            pairs += row_keys(batch, card["labels"])
    arrays: dict[str, NDArray[Any]] = {}
    kinds: list[tuple[str, list[str], list[str]]] = [
        ("labelled", ["test"], card["labels"]),
        ("traffic", [HELD_OUT_TRAFFIC], []),
    ]
    for turn, (kind, splits, labels) in enumerate(kinds):
        count = card["rows"].get(splits[0], 0)
        if not count:
            continue
        rows = np.sort(np.random.default_rng(seed).permutation(count)[:ROWS])
        texts, truth = chosen_rows(data, splits, rows, len(labels))
        sample = measure(predictor, texts, words, truth, labels, progress and _part(progress, turn, len(kinds)))
        arrays |= {f"{kind}.{name}": value for name, value in vars(sample).items()}
    save_file(arrays, output / ARRAYS)
    found = {"learnt": keys["train"] + keys["validation"], "test": keys["test"], "rows": pairs, "words": words}
    save_file({name: _keys(values) for name, values in found.items()}, output / KEYS)
    content = {
        "model": artifacts.load(model, artifacts.MODEL)["digest"],
        "dataset": card["digest"],
        "labels": card["labels"],
        "answers": list(predictor.labels),
        "rows": card["rows"],
        "traffic_files": traffic_files(card),
    }
    return artifacts.seal(output, artifacts.REFERENCE, content)


def _part(progress: Progress, turn: int, turns: int) -> Progress:
    return lambda share: progress((turn + share) / turns)


def read_reference(folder: Path) -> Reference:
    """Return the reference in a verified folder."""
    arrays, keys = load_file(folder / ARRAYS), load_file(folder / KEYS)
    kinds = {
        kind: Sample(**{name.partition(".")[2]: v for name, v in arrays.items() if name.startswith(f"{kind}.")})
        for kind in {name.partition(".")[0] for name in arrays}
    }
    learnt = frozenset(keys["learnt"].tolist())
    return Reference(
        manifest=artifacts.load(folder, artifacts.REFERENCE),
        labelled=kinds["labelled"],
        traffic=kinds.get("traffic"),
        texts=learnt | frozenset(keys["test"].tolist()),
        learnt=learnt,
        rows=frozenset(keys["rows"].tolist()),
        words=frozenset(keys["words"].tolist()),
    )


def traffic_files(card: artifacts.Manifest) -> list[str]:
    """Return the digests of a dataset's files of unlabelled text."""
    return sorted(digest for name, digest in card["files"].items() if name.startswith("unlabelled"))


def _texts(batch: Any) -> list[str]:
    texts: list[str] = batch["text"].to_pylist()
    return texts


def _keys(keys: Collection[int]) -> NDArray[np.uint64]:
    return np.array(sorted(keys), np.uint64)
