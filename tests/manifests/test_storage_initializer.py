"""The component that hardens the container with which KServe fetches models, on KServe's own object."""

import shutil
from pathlib import Path

import yaml

from tests.manifests.rendering import MANIFESTS, Object, rendered_text

# As KServe 0.20.0 ships it (config/storagecontainers/default.yaml), but for the list of prefixes.
KSERVE = """
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterStorageContainer
metadata:
  name: default
spec:
  container:
    name: storage-initializer
    image: kserve/storage-initializer:v0.20.0
    imagePullPolicy: IfNotPresent
    resources:
      requests: {memory: 100Mi, cpu: 100m}
      limits: {memory: 1Gi, cpu: "1"}
  supportedUriFormats:
    - prefix: s3://
  workloadType: initContainer
  supportsMultiModelDownload: true
"""


def hardened(folder: Path) -> Object:
    """Return KServe's object with the component on top, made in an empty folder."""
    shutil.copytree(MANIFESTS / "kserve/restricted", folder / "restricted")
    (folder / "kserve.yaml").write_text(KSERVE)
    lines = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    parts = {"resources": ["kserve.yaml"], "components": ["restricted"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(lines | parts))
    found: Object = yaml.safe_load(rendered_text(folder))
    return found


def test_the_container_is_as_restricted_asks_and_the_rest_stays(tmp_path: Path) -> None:
    after = hardened(tmp_path)
    assert after["spec"]["container"].pop("securityContext") == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert after == yaml.safe_load(KSERVE)


def test_our_kserve_has_it() -> None:
    installed = yaml.safe_load((MANIFESTS / "kind/kserve/kustomization.yaml").read_text())
    assert installed["components"] == ["../../kserve/restricted"]
