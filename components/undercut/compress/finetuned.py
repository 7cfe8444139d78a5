"""The structure ``finetuned``: the fine-tuned model itself, the candidate that the others must undercut."""

from pathlib import Path

from undercut import artifacts

ARGUMENT = r""
FORMS = "finetuned"


def compress(teacher: Path, data: Path, output: Path, argument: str, seed: int) -> None:
    """Hand the teacher on unchanged."""
    manifest = artifacts.load(teacher, artifacts.MODEL)
    artifacts.copy_files(teacher, output, manifest["files"])
    artifacts.seal(output, artifacts.MODEL, artifacts.content(manifest))
