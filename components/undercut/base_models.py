"""A base model's folder: whether it can be fine-tuned, where it comes from, how long a text it reads."""

import json
from pathlib import Path

from undercut import artifacts, events
from undercut.errors import ConfigurationError
from undercut.storage import digest, local_path

BASE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def check_base(base: Path, uri: str) -> str:
    """Return the digest of a base model's folder.

    Raises:
        ConfigurationError: a file is missing, or the model was pruned of attention heads.
    """
    for name in BASE_FILES:
        if not (base / name).is_file():
            raise ConfigurationError(
                "base_model", uri, f"a folder with {name}", "Save it with save_pretrained and a fast tokenizer"
            )
    if (base / artifacts.MODEL).is_file() and artifacts.load(base, artifacts.MODEL).get("parameters", {}).get("heads"):
        remedy = "Give the model that it was made from; prune after fine-tuning"
        raise ConfigurationError("base_model", uri, "a base whose layers have all their attention heads", remedy)
    return digest(base)


def find_base(uri: str, made: Path | None) -> tuple[Path, dict[str, str]]:
    """Return the folder of the base to fine-tune, and what a manifest says of it.

    Args:
        uri: where the base is, if no stage made one.
        made: the model folder that transfer or pretrain wrote; it stands before ``uri``.

    Returns:
        The folder; ``uri`` and ``digest``, and ``structure`` where a stage changed or made the weights: then
        the URI, which names what it was made from, does not lead to them.

    Raises:
        ConfigurationError: a file is missing, or the stage made no model.
    """
    if made is None:
        base = local_path(uri, "base_model")
        return base, {"uri": uri.partition("#")[0], "digest": check_base(base, uri)}
    manifest = artifacts.load(made, artifacts.MODEL)
    if manifest["lost"]:
        raise ConfigurationError("base", str(made), "a model", manifest["lost"])
    check_base(made, str(made))
    origin = manifest["base_model"] or {"uri": ""}
    if manifest["structure"] == "base":
        return made, origin
    return made, {"uri": origin["uri"], "digest": manifest["digest"], "structure": manifest["structure"]}


def longest_text(base: Path, max_length: int) -> int:
    """Return ``max_length``, or the tokens that the base has positions for where those are fewer."""
    positions = json.loads((base / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    if positions is None or max_length <= positions:
        return max_length
    events.message(f"texts are cut at {positions} tokens, not at {max_length}: the base model has no more positions")
    return int(positions)
