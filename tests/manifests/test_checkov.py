"""checkov on what is rendered, custom resources' pods included; it has an environment of its own."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.rendering import MANIFESTS, ROOT, pod_specs

Object = dict[str, Any]
Render = Callable[[str], list[Object]]
OVERLAYS = ("overlays/kind", "overlays/gpu", "overlays/profile")


def checkov() -> str:
    """Return checkov, or skip: its pins are older than ours, so it cannot be installed beside us."""
    own = ROOT / ".venv-checkov/bin/checkov"
    found = os.environ.get("CHECKOV") or (str(own) if own.is_file() else shutil.which("checkov"))
    if not found:
        pytest.skip("checkov is not installed: make check-manifests (or CHECKOV=path)")
    return found


def failures(files: list[Path], *options: str) -> tuple[int, list[str]]:
    """Return how many checks passed and which failed."""
    command = [checkov(), "--framework", "kubernetes", "--output", "json", "--compact", "--quiet", "--skip-download"]
    command += [*options, *(part for file in files for part in ("--file", str(file)))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=MANIFESTS)
    answer = json.loads(done.stdout)
    failed = [f"{f['check_id']} {f['resource']}" for f in answer["results"]["failed_checks"]]
    return answer["summary"]["passed"], failed


def pods_of_custom_resources(items: list[Object]) -> list[Object]:
    """Return the pods that KServe and Trainer would make, as plain ones that checkov looks into."""
    pods = []
    for item in items:
        if item["kind"] not in ("ServingRuntime", "TrainingRuntime"):
            continue
        for metadata, spec in pod_specs(item):
            wanted = {
                k: v for k, v in spec.items() if k not in ("annotations", "supportedModelFormats", "protocolVersions")
            }
            if item["kind"] == "ServingRuntime":  # what deploy puts into every InferenceService
                wanted |= {"serviceAccountName": "undercut-serving", "automountServiceAccountToken": False}
                wanted["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
            names = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, **names}, "spec": wanted})
    return pods


@pytest.mark.slow
def test_no_check_fails_that_is_not_waived(render: Render, tmp_path: Path) -> None:
    files = []
    for overlay in OVERLAYS:
        items = render(overlay)
        files.append(tmp_path / f"{overlay.replace('/', '-')}.yaml")
        files[-1].write_text(yaml.safe_dump_all(items + pods_of_custom_resources(items)))
    passed, failed = failures(files, "--config-file", str(MANIFESTS / "checkov.yaml"))
    # A TrainJob ends by itself, so it has no probes; Trainer sets its resources.
    ends = {f"{check} Pod.kubeflow.undercut-train" for check in ("CKV_K8S_8", "CKV_K8S_9")}
    sized = {f"CKV_K8S_{n} Pod.kubeflow.undercut-train" for n in (10, 11, 12, 13)}
    unwaived = {f.replace("user-example", "kubeflow") for f in failed} - ends - sized
    assert unwaived == set()
    assert passed > 900


@pytest.mark.slow
def test_a_privileged_container_is_seen(render: Render, tmp_path: Path) -> None:
    (deployment,) = (i for i in render("platform") if i["kind"] == "Deployment")
    text = yaml.safe_dump(deployment).replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    (tmp_path / "wrong.yaml").write_text(text)
    _, failed = failures([tmp_path / "wrong.yaml"], "--config-file", str(MANIFESTS / "checkov.yaml"))
    assert "CKV_K8S_20 Deployment.undercut.mlflow" in failed


def test_each_waiver_has_its_reason() -> None:
    lines = (MANIFESTS / "checkov.yaml").read_text().splitlines()
    waived = [i for i, line in enumerate(lines) if line.strip().startswith("- CKV")]
    assert len(waived) == 3
    assert all(lines[i - 1].strip().startswith("# ") for i in waived)
    annotations = [m for p in MANIFESTS.rglob("*.yaml") for m in re.findall(r"checkov.io/skip\d+: (.*)", p.read_text())]
    assert all(re.fullmatch(r"CKV_K8S_\d+=.{20,}", a) for a in annotations), annotations
