"""A model folder becomes a model that can answer: verified, loaded, warmed up and smoke-tested.

The same for the first model and for each that is swapped in later. Nothing here touches the model that
is being served.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undercut import artifacts
from undercut.candidates import candidate_name
from undercut.errors import CandidateLost, ConfigurationError
from undercut.label_sets import MultiLabelPredictor
from undercut.predictors import BatchTokenizer, FloatArray, Predictor, load_predictor

# What a format needs beyond what the serve image holds.
NEEDS = {"torch": ("torch", "transformers"), "adapter": ("torch", "transformers", "peft")}
# A structure with a vocabulary of its own, in which a text has another number of tokens than in the base's.
OWN_VOCABULARY = "scratch"
SUM_TOLERANCE = 1e-3
CANNED_TEXTS = (
    "warm-up",
    "Where is my order? It was due on Monday, and nobody answers.",
    "ça va, 请问 😀",
    "1234 5678 !!!",
    "the same words again and again, " * 40,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """What one answer is made with; a request holds on to one of these from its first batch to its last.

    Args:
        predictor: the loaded model.
        digest: the folder's.
        candidate: ``structure/precision``.
        tokenizer: counts tokens as prices do (the base model's, cut at its longest text); None if there is none.
    """

    predictor: Predictor
    digest: str
    candidate: str
    tokenizer: BatchTokenizer | None


def folder_digest(folder: Path) -> str:
    """Return the digest that a model folder's manifest states; no file is checked.

    Raises:
        ConfigurationError: there is no manifest, or it is not one of a sealed folder.
    """
    digest = artifacts.load(folder, artifacts.MODEL).get("digest")
    if not isinstance(digest, str):
        raise ConfigurationError(artifacts.MODEL, digest, "a manifest with its digest", "Produce the model again")
    return digest


def load_model(folder: Path, threads: int, digest: str | None = None, tokenizer: Path | None = None) -> ServedModel:
    """Verify a folder, load it, and let it answer canned texts.

    Args:
        folder: a sealed model folder; a link is followed once, so that a switch in the middle mixes nothing.
        threads: threads of one prediction.
        digest: the digest recorded elsewhere; None trusts the manifest's own.
        tokenizer: folder whose tokenizer counts tokens; None for the model's own where that is the base's.

    Raises:
        ConfigurationError: the folder was tampered with or changed meanwhile, holds a lost candidate, needs
            packages that are not installed, or its answers are no probabilities.
    """
    folder = folder.resolve()
    manifest = artifacts.load(folder, artifacts.MODEL)
    _check_packages(str(manifest.get("format")))
    try:
        predictor = load_predictor(folder, threads, digest)
    except CandidateLost as lost:
        raise ConfigurationError("model", str(folder), "a model that was not lost", str(lost)) from lost
    smoke_test(folder, predictor, manifest["labels"])
    if folder_digest(folder) != manifest["digest"]:
        raise ConfigurationError("model", str(folder), "a folder that stays as it is while it is loaded", "Load again")
    return ServedModel(
        predictor=predictor,
        digest=manifest["digest"],
        candidate=candidate_name(manifest),
        tokenizer=counting_tokenizer(folder, manifest, tokenizer),
    )


def _check_packages(form: str) -> None:
    missing = [name for name in NEEDS.get(form, ()) if importlib.util.find_spec(name) is None]
    if missing:
        allowed = f"onnx, linear or static where {', '.join(missing)} is not installed"
        raise ConfigurationError("model.format", form, allowed, "Choose a candidate with a precision such as fp32")


def smoke_test(folder: Path, predictor: Predictor, labels: list[str]) -> None:
    """Let a model answer canned texts, in one batch and alone, which also warms it up.

    Raises:
        ConfigurationError: its labels are not the manifest's, or an answer is no distribution over them.
    """
    if list(predictor.labels) != labels:
        raise ConfigurationError("model.labels", list(predictor.labels), f"the manifest's: {labels}")
    for texts in (CANNED_TEXTS, CANNED_TEXTS[:1]):
        fault = _fault(predictor.probabilities(texts), (len(texts), len(labels)), predictor)
        if fault:
            remedy = "Produce the model again"
            raise ConfigurationError("model", f"{folder.name} ({fault})", "probabilities for each text", remedy)


def _fault(probabilities: FloatArray, shape: tuple[int, int], predictor: Predictor) -> str:
    if probabilities.shape != shape:
        return f"answers of shape {probabilities.shape}, not {shape}"
    if not np.isfinite(probabilities).all():
        return "an answer that is not finite"
    if (probabilities < 0).any() or (probabilities > 1 + SUM_TOLERANCE).any():
        return "an answer that is not between 0 and 1"
    sums = probabilities.sum(axis=1)
    if not isinstance(predictor, MultiLabelPredictor) and np.abs(sums - 1).max() > SUM_TOLERANCE:
        return f"probabilities that sum to {sums[np.abs(sums - 1).argmax()]:.4f}"
    return ""


def counting_tokenizer(folder: Path, manifest: artifacts.Manifest, other: Path | None) -> BatchTokenizer | None:
    """Return the tokenizer that counts tokens as prices do, or None where the folder holds no such one.

    Prices count every candidate's tokens with the fine-tuned model's tokenizer, special tokens included,
    cut at its longest text. Candidates made from that model carry it; a linear model carries none, and one
    pretrained from scratch has a vocabulary of its own.

    Raises:
        ConfigurationError: ``other`` holds no tokenizer, or nothing says where it cuts.
    """
    source = other or folder
    if other is None and (manifest["structure"] == OWN_VOCABULARY or not (folder / "tokenizer.json").is_file()):
        return None
    if not (source / "tokenizer.json").is_file():
        raise ConfigurationError("tokenizer", str(source), "a folder with tokenizer.json", "Name the base model's")
    card = artifacts.load(source, artifacts.MODEL) if (source / artifacts.MODEL).is_file() else manifest
    if not card["max_length"]:
        remedy = "Name the fine-tuned model's folder"
        raise ConfigurationError("tokenizer", str(source), "a folder whose model.json says the longest text", remedy)
    return BatchTokenizer(source, card["max_length"])
