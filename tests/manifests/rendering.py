"""The manifests as `kubectl kustomize` renders them, each folder once."""

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
Object = dict[str, Any]
# What stands by itself. Components are rendered on top of one of these; manifests/kind names upstream
# addresses, and secrets/platform and secrets/runs need the files of make.sh.
WHOLE = (
    "cluster",
    "kfp",
    "platform",
    "secrets/external",
    "overlays/kind",
    "overlays/gpu",
    "overlays/gpu/kueue",
    "overlays/profile",
)
OVERLAYS = ("overlays/kind", "overlays/gpu", "overlays/profile")
# Component -> what it is applied to.
COMPONENTS = {
    "runs/monitoring": "runs",
    "runs/internet": "runs",
    "runs/istio": "runs",
    "runs/knative": "runs",
    "platform/external-postgres": "platform",
    "platform/two-replicas": "platform",
}


def kubectl() -> str:
    """Return kubectl, or skip: rendering needs it, and no Python package does the same."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed: the manifests cannot be rendered")
    return found


@functools.cache
def rendered_text(folder: Path) -> str:
    """Return the YAML that kustomize makes of a folder."""
    environment = {**os.environ, "HOME": str(folder), "KUBECONFIG": os.devnull}  # no cluster's configuration
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod_specs(item: Object) -> list[tuple[Object, Object]]:
    """Return the (metadata, spec) of every pod template of an object, wherever it is nested."""
    found = []

    def walk(node: Any, metadata: Object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("containers"), list):
                found.append((metadata, node))
            for value in node.values():
                walk(value, node.get("metadata", {}))
        elif isinstance(node, list):
            for value in node:
                walk(value, metadata)

    walk(item, {})
    return found


@functools.cache
def rendered(folder: Path) -> list[Object]:
    """Return the objects that kustomize makes of a folder; not to be changed."""
    return list(yaml.load_all(rendered_text(folder), yaml.CSafeLoader))
