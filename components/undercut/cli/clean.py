"""What may be removed from the workspace, and its removal.

Always kept: MLflow's database and artifacts, so that registered models and past figures stay.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from undercut import workspace
from undercut.cli import runs


@dataclass(frozen=True, kw_only=True)
class Removable:
    """A folder that nothing needs any more, and why."""

    path: Path
    why: str
    bytes: int


def removable(keep: int) -> list[Removable]:
    """Return what goes when the newest ``keep`` runs stay.

    A kept run may have taken steps from the cache: the runs that made them stay as well. With ``keep`` 0
    everything but MLflow's store goes.
    """
    home = workspace.home()
    known = runs.all_runs()
    kept = known[:keep]
    needed = {part for run in kept for part in _used_runs(run)} | {run.name for run in kept}
    found = [(p, "an older run") for p in _folders(home / "runs") if p.name not in needed]
    current = workspace.code_digest()[:16]
    found += [
        (p, "cache" if p.name.startswith(current) else "cache of another version of the code")
        for p in _folders(home / "cache")
        if keep == 0 or not p.name.startswith(current)
    ]
    found += [(p, "checkpoints of an interrupted training") for p in _folders(home / "checkpoints")]
    if keep == 0:
        found += [(p, "a hyperparameter search, which would be extended") for p in _folders(home / "studies")]
        found += [(p, "a downloaded source, fetched again when needed") for p in _folders(home / "downloads")]
        found += [(p, "downloaded models, fetched again when served") for p in _folders(home / "models")]
    return [Removable(path=p, why=why, bytes=_bytes(p)) for p, why in found]


def remove(items: list[Removable]) -> None:
    """Remove them."""
    for item in items:
        shutil.rmtree(item.path)


def _used_runs(run: Path) -> set[str]:
    """Return the names of the runs whose artifacts a run's record points at."""
    root = workspace.home() / "runs"
    paths = [Path(p) for group in runs.read(run).get("outputs", {}).values() for p in group]
    return {p.relative_to(root).parts[0] for p in paths if p.is_relative_to(root)}


def _folders(parent: Path) -> list[Path]:
    return sorted(p for p in parent.glob("*") if p.is_dir())


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
