"""What a TrainJob leaves: the first worker's folders, and what all its nodes reserved."""

from collections.abc import Mapping
from pathlib import Path

from undercut import artifacts, costs
from undercut.launch import Artifact
from undercut.resources import Resources
from undercut.storage import local_path


def fetch(outputs: Mapping[str, Artifact], uris: Mapping[str, str]) -> None:
    """Bring what the first worker uploaded to the paths that the step's outputs have."""
    for name, artifact in outputs.items():
        found = local_path(uris[name], name)
        files = [p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()]
        artifacts.copy_files(found, Path(artifact.path), files)


def charge(output: Path, use: costs.LedgerEntry, wanted: Resources) -> None:
    """Put what all nodes reserved into the output's ledger; the step adds its own seconds."""
    manifest = artifacts.load(output, artifacts.MODEL)
    entry = costs.LedgerEntry(**use)
    entry["cpu_seconds"] *= wanted.nodes * wanted.processes_per_node
    entry["cores"] *= wanted.nodes
    entry["gpus"] *= wanted.nodes
    manifest["ledger"] = costs.merge([manifest["ledger"], [entry]])
    artifacts.write_json(output / artifacts.MODEL, manifest)
