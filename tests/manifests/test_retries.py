"""The component that makes Argo repeat failed and evicted steps, on KFP's own ConfigMap."""

import shutil
from pathlib import Path

import yaml

from tests.manifests.rendering import MANIFESTS, rendered_text

# As KFP 2.17.0 ships it, the parts that matter (third-party/argo/base/workflow-controller-configmap-patch.yaml).
KFP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: workflow-controller-configmap
  namespace: kubeflow
data:
  artifactRepository: |
    archiveLogs: true
  executor: |
    imagePullPolicy: IfNotPresent
  workflowDefaults: |
    spec:
      ttlStrategy:
        secondsAfterCompletion: 3600
        secondsAfterSuccess: 3600
        secondsAfterFailure: 3600
      templateDefaults:
        retryStrategy:
          limit: '2'
          retryPolicy: OnError
"""


def test_one_word_changes(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS / "kfp/retries", tmp_path / "retries")
    (tmp_path / "kfp.yaml").write_text(KFP)
    top = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(top | {"resources": ["kfp.yaml"], "components": ["retries"]})
    )
    before, after = yaml.safe_load(KFP), yaml.safe_load(rendered_text(tmp_path))
    defaults = yaml.safe_load(after["data"].pop("workflowDefaults"))
    expected = yaml.safe_load(before["data"].pop("workflowDefaults"))
    expected["spec"]["templateDefaults"]["retryStrategy"]["retryPolicy"] = "Always"
    assert defaults == expected
    assert after == before
