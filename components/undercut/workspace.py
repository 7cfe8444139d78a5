"""Where Undercut keeps what it makes: ``.undercut`` in the current folder, or ``UNDERCUT_HOME``.

``runs/<id>/`` one run: artifacts, events.jsonl, kfp.log, report.html, run.json
``cache/<code digest>/`` KFP's cache of finished steps, apart for each version of the code
``checkpoints/<key>/`` training states, so that an interrupted run resumes
``studies/<name>/`` searches of hyperparameters: Optuna's SQLite file, and its trials' checkpoints
``mlflow.db``, ``mlartifacts/`` MLflow's store
"""

import hashlib
import os
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def home() -> Path:
    """Return the workspace's absolute path (created by whoever writes into it)."""
    return Path(os.environ.get("UNDERCUT_HOME", ".undercut")).resolve()


def tracking_uri() -> str:
    """Return MLflow's address: ``MLFLOW_TRACKING_URI``, or SQLite in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


@cache
def code_digest() -> str:
    """Return a digest of the package's own files and of the pinned versions beside them."""
    digest = hashlib.sha256()
    constraints = PACKAGE.parents[1] / "constraints.txt"
    sources = [p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in [*sorted(sources), *([constraints] if constraints.is_file() else [])]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
