"""The structure ``finetuned``: the fine-tuned model itself, the candidate that the others must undercut."""

from pathlib import Path

from undercut import artifacts
from undercut.compress.structures import Inputs

ARGUMENT = r""
FORMS = "finetuned"


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Hand the teacher on unchanged."""
    manifest = artifacts.load(inputs.teacher, artifacts.MODEL)
    artifacts.copy_files(inputs.teacher, output, manifest["files"])
    artifacts.seal(output, artifacts.MODEL, artifacts.content(manifest))
