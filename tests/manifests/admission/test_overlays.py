"""Each overlay on a real API server: nothing is refused or warned of, and nothing changes when it is applied again."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.manifests.admission.conftest import Overlay
from tests.manifests.admission.server import RESTRICTED, ApiServer, Object, as_our_own
from tests.manifests.rendering import COMPONENTS, MANIFESTS, OVERLAYS, pod_specs, rendered, rendered_text


@pytest.mark.parametrize("folder", OVERLAYS)
def test_an_overlay_is_taken_and_applying_it_again_changes_nothing(overlays: dict[str, Overlay], folder: str) -> None:
    overlay = overlays[folder]
    for _ in range(10):  # a controller may write a status in between
        if not (difference := overlay.server.difference(overlay.served)):
            break
        time.sleep(1)
    assert difference == ""


@pytest.mark.parametrize("folder", OVERLAYS)
def test_custom_resources_are_served(overlays: dict[str, Overlay], folder: str) -> None:
    if missing := overlays[folder].missing:
        pytest.skip(f"not tried, since their CRDs are not installed: {', '.join(missing)}")


def check(server: ApiServer, items: list[Object], short: str) -> None:
    """Apply objects in namespaces of their own, twice; skip in the end, if not every kind is served."""
    own = ("kubeflow", "undercut", "undercut-gpu")
    names = {name: f"{server.mark}-{short}-{name}" for name in own} | {"undercut-training": f"{server.mark}-kind"}
    items = as_our_own(items, names, server.mark)
    served = [item for item in items if server.serves(item)]
    made = {item["metadata"]["name"] for item in served if item["kind"] == "Namespace"}
    for namespace in {i["metadata"]["namespace"] for i in served if "namespace" in i["metadata"]} - made:
        server.namespace(namespace, {**RESTRICTED, "undercut/test": server.mark})
    if not served:
        pytest.skip(f"not tried, since their CRDs are not installed: {', '.join(sorted({i['kind'] for i in items}))}")
    server.apply(served)
    for _ in range(10):  # a controller may write a status in between
        if not (difference := server.difference(served)):
            break
        time.sleep(1)
    assert difference == ""
    if missing := sorted({i["kind"] for i in items} - {i["kind"] for i in served}):
        pytest.skip(f"all but these are taken, whose CRDs are not installed: {', '.join(missing)}")


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_optional_part_is_taken(
    server: ApiServer, with_component: Callable[[str], list[Object]], component: str
) -> None:
    check(server, with_component(component), component.rpartition("/")[2])


@pytest.mark.parametrize("folder", ["overlays/gpu/kueue", "secrets/external"])
def test_an_optional_operators_objects_are_taken(server: ApiServer, folder: str) -> None:
    check(server, rendered(MANIFESTS / folder), folder.rpartition("/")[2])


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_pod_template_passes_restricted(overlays: dict[str, Overlay], folder: str) -> None:
    """As bare pods, so that no controller is needed; a Deployment's own refusal would only be an event."""
    overlay, made = overlays[folder], 0
    for item in overlay.served:
        if item["kind"] == "ServingRuntime":  # half a pod: tests of InferenceServices have the whole
            continue
        # What a StatefulSet's controller makes of its claims.
        claims = [c["metadata"]["name"] for c in item["spec"].get("volumeClaimTemplates", [])] if "spec" in item else []
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims]
        for metadata, template in pod_specs(item):
            spec = {**template, "volumes": [*template.get("volumes", []), *volumes]}
            name = f"try-{item['kind'].lower()}-{item['metadata']['name']}"[:60]
            pod = {"metadata": {"name": name, "labels": metadata.get("labels", {})}, "spec": spec}
            namespace = item["metadata"]["namespace"]
            overlay.server.create_pod(namespace, pod)
            overlay.server.core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            made += 1
    assert made or folder.endswith("profile")


def test_restricted_is_really_enforced(overlays: dict[str, Overlay]) -> None:
    """The control of the test above."""
    overlay = overlays["overlays/kind"]
    (deployment,) = (i for i in overlay.served if i["kind"] == "Deployment")
    ((_, spec),) = pod_specs(deployment)
    pod = json.loads(json.dumps({"metadata": {"name": "try-root"}, "spec": spec}))
    pod["spec"]["securityContext"]["runAsUser"] = 0
    done = overlay.server.kubectl(
        "create", "--namespace", overlay.platform, "-f", "-", given=[{"apiVersion": "v1", "kind": "Pod", **pod}]
    )
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in done.stderr


def test_the_secrets_are_taken(overlays: dict[str, Overlay], tmp_path: Path) -> None:
    overlay = overlays["overlays/kind"]
    folder = tmp_path / "secrets"
    shutil.copytree(MANIFESTS / "secrets", folder, ignore=shutil.ignore_patterns("*.env"))
    environment = {"PATH": "/usr/bin:/bin", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "secret"}
    subprocess.run([folder / "make.sh"], check=True, capture_output=True, env=environment)
    for part, namespace in (("platform", overlay.platform), ("runs", overlay.runs)):
        items = list(yaml.safe_load_all(rendered_text(folder / part)))
        for item in items:
            item["metadata"]["namespace"] = namespace
        overlay.server.apply(items)
        assert overlay.server.difference(items) == ""
