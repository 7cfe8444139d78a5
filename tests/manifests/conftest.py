"""Rendered manifests, for the tests of this folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.manifests.rendering import COMPONENTS, MANIFESTS, WHOLE, Object, rendered


@pytest.fixture(scope="session")
def render() -> Callable[[str | Path], list[Object]]:
    """Render a folder, relative to manifests/, to a list of objects."""

    def objects(folder: str | Path) -> list[Object]:
        return rendered(MANIFESTS / folder)

    return objects


@pytest.fixture(scope="session")
def with_component(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Object]]:
    """Render a component on top of what it is made for, in namespace kubeflow for runs."""

    def objects(component: str) -> list[Object]:
        folder = tmp_path_factory.mktemp("component")
        shutil.copytree(MANIFESTS, folder / "manifests")
        base = COMPONENTS[component]
        lines = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        parts = {"components": [f"manifests/{base}", f"manifests/{component}"], "namespace": "kubeflow"}
        if base == "platform":
            parts = {"resources": ["manifests/platform"], "components": [f"manifests/{component}"]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(lines | parts))
        return rendered(folder)

    return objects


@pytest.fixture(scope="session")
def all_objects(
    render: Callable[[str], list[Object]], with_component: Callable[[str], list[Object]]
) -> list[tuple[str, Object]]:
    """Every object of everything that can be rendered offline, with where it came from."""
    found = [(folder, item) for folder in WHOLE for item in render(folder)]
    return found + [(component, item) for component in COMPONENTS for item in with_component(component)]
