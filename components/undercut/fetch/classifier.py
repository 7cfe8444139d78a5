"""Take a model that is already fine-tuned: from a path or URI into the pipeline, verified, fit for the dataset.

KFP's own importer makes an artifact of an object store's URI without reading it: nothing would check the
digest, or that model and dataset mean the same labels, and a path or an ``hf://`` URI is none of its schemes.
This step reads whatever :mod:`undercut.storage` does, alike on a laptop and on a cluster.
"""

from pathlib import Path

from undercut import artifacts, events
from undercut.errors import ConfigurationError
from undercut.storage import local_path, without_pin

# What finetune writes; the others have no weights that a smaller model could start from.
FORMATS = ("torch", "adapter")


def fetch(uri: str, data: Path, output: Path) -> artifacts.Manifest:
    """Copy a sealed model folder, as finetune writes it, to be the teacher of this run.

    Args:
        uri: the folder, any URI of :mod:`undercut.storage`.
        data: dataset folder that the model is to be compressed and measured on.
        output: where the model goes; its digest is the source's, unless that was no ``finetuned`` model.

    Raises:
        ConfigurationError: it is no sealed model folder or was tampered with, holds a lost candidate or one that
            is served from its own weights, or its task or labels are not the dataset's.
    """
    folder = local_path(uri, "model")
    shown = without_pin(uri)
    if not (folder / artifacts.MODEL).is_file():
        remedy = "Give the folder that finetune wrote, or fine-tune with pipelines/lifecycle.py"
        raise ConfigurationError("model", shown, f"a folder that holds {artifacts.MODEL}", remedy)
    manifest = artifacts.verify(folder, artifacts.MODEL)
    card = artifacts.load(data, artifacts.DATASET)
    _check(shown, manifest, card)
    if manifest["dataset"] != card["digest"]:
        events.message(
            "the model was fine-tuned on another dataset: where its training rows are among these test rows, "
            "its figures flatter it"
        )
    artifacts.copy_files(folder, output, manifest["files"])
    # The others are compared with it by this name, whatever it was made by.
    content = artifacts.content(manifest) | {"structure": "finetuned", "precision": "as-is"}
    events.message(f"{shown}: {manifest['method']}")
    return artifacts.seal(output, artifacts.MODEL, content)


def _check(shown: str, manifest: artifacts.Manifest, card: artifacts.Manifest) -> None:
    if manifest["lost"]:
        raise ConfigurationError("model", f"{shown}, a lost candidate ({manifest['lost']})", "a model with weights")
    if manifest["format"] not in FORMATS:
        remedy = "Give the fine-tuned model that it was made from"
        raise ConfigurationError("model", f"{shown}, a {manifest['format']} model", "a model in PyTorch format", remedy)
    if manifest["task"] != card["task"]:
        raise ConfigurationError("model", f"{shown}, for {manifest['task']}", f"a model for {card['task']}")
    if manifest["labels"] != card["labels"]:
        odd = sorted({*manifest["labels"]} ^ {*card["labels"]})
        found = f"only one of them has {', '.join(odd[:3])}" if odd else "they stand in another order"
        remedy = "Give rows with the labels that the model was fine-tuned on"
        got = f"{len(manifest['labels'])} labels against the dataset's {len(card['labels'])}: {found}"
        raise ConfigurationError("model", got, "a model with the dataset's labels", remedy)
