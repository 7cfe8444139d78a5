"""Full fine-tuning or an adapter: what the choice changes after a training."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from undercut import adapters, artifacts, events, label_sets
from undercut.adapter_settings import AdapterConfig
from undercut.batching import length_batches
from undercut.errors import ConfigurationError
from undercut.label_sets import is_multi_label, sigmoid
from undercut.out_of_scope import choose_threshold, label_index
from undercut.predictors import TOKENIZER_FILES, softmax
from undercut.tasks.protocol import Encoded, Task


def describe(config: AdapterConfig) -> str:
    """Return the method in words, for ``model.json``."""
    if config.method == "full":
        return "full fine-tuning"
    if config.method == "prefix":
        return f"prefix tuning, {config.virtual_tokens} virtual tokens"
    return f"{config.method} of rank {config.rank}"


def save_trained(model: torch.nn.Module, path: Path) -> None:
    """Keep the weights that the method trains."""
    trained = {n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(trained, path)


def restore_trained(model: torch.nn.Module, path: Path) -> None:
    """Put the weights kept by :func:`save_trained` back, in place."""
    kept = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in kept:
                parameter.copy_(kept.pop(name))
    assert not kept, sorted(kept)


def check_out_of_scope(labels: list[str], label: str, held: NDArray[np.int64], coverage: float) -> None:
    """Refuse an out-of-scope label that no threshold could be chosen for, before anything is trained."""
    if label and is_multi_label(held):
        remedy = "Where a row may have no label, that is the answer to texts which fit none"
        raise ConfigurationError("out_of_scope_label", label, "empty on data of several labels a row", remedy)
    if label:
        label_index(labels, label, held, coverage)


def decision(
    model: torch.nn.Module, task: Task, held: Encoded, labels: list[str], label: str, coverage: float
) -> dict[str, Any]:
    """Return how probabilities become answers, for ``model.json``, chosen on rows the model has not seen.

    ``threshold`` if rows may have several labels, ``out_of_scope`` if there is such a label (else None).
    """
    if is_multi_label(held.labels):
        threshold = label_sets.choose_threshold(sigmoid(_logits(model, task, held, len(labels))), held.labels)
        events.message(f"labels of probability {threshold:.3f} or more are answered")
        return {"threshold": threshold, "out_of_scope": None}
    if not label:
        return {"out_of_scope": None}
    index = labels.index(label)
    threshold = choose_threshold(softmax(_logits(model, task, held, len(labels))), held.labels, index, coverage)
    events.message(f"texts with no label of probability {threshold:.3f} or more are answered '{label}'")
    return {"out_of_scope": {"label": label, "threshold": threshold, "coverage": coverage}}


def _logits(model: torch.nn.Module, task: Task, held: Encoded, labels: int) -> NDArray[np.float32]:
    """Return the model's scores of the rows, shape (rows, labels)."""
    model.eval()
    found = np.zeros((len(held.labels), labels), dtype=np.float32)
    for rows in length_batches(held.lengths, 4096, seed=None):
        batch = task.collate(held, rows)
        with torch.inference_mode():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        found[rows] = logits.float().numpy()
    return found


def write(
    model: torch.nn.Module,
    output: Path,
    adapter: Path | None,
    content: Mapping[str, Any],
    config: AdapterConfig,
    base: Path,
) -> artifacts.Manifest:
    """Seal the model folder, merged where the method allows, and the adapter alone where it is wanted.

    Args:
        model: the trained model.
        output: the model folder; with a prefix it holds the adapter, which needs its base to be loaded.
        adapter: the adapter's folder; after full fine-tuning it is a lost candidate that says why.
        content: what both manifests say.
        config: the method.
        base: the base's folder, for the tokenizer.

    Returns:
        The manifest of ``output``.
    """
    counts = {
        "parameter_count": sum(p.numel() for n, p in model.named_parameters() if ".original_module." not in n),
        "trained_parameter_count": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    uri = content["base_model"]["uri"]
    if adapter is not None:
        adapter.mkdir(parents=True, exist_ok=True)
        lost = "full fine-tuning trains every weight: there is no adapter" if config.method == "full" else ""
        if not lost:
            adapters.save_adapter(model, adapter, uri)
        artifacts.seal(adapter, artifacts.MODEL, {**content, **counts, "format": "adapter", "lost": lost})
    if config.method == "prefix":
        adapters.save_adapter(model, output, uri)
    else:
        plain = adapters.merged(model) if config.method in adapters.MERGED else model
        assert isinstance(plain, PreTrainedModel), type(plain)
        if content["task"] == label_sets.TASK:  # for those who load the folder with transformers alone
            plain.config.problem_type = "multi_label_classification"
        plain.save_pretrained(output)
        counts["parameter_count"] = sum(p.numel() for p in plain.parameters())
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, output / name)
    form = "adapter" if config.method == "prefix" else "torch"
    return artifacts.seal(output, artifacts.MODEL, {**content, **counts, "format": form})
