"""The script that writes what Secrets are made of."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.manifests.rendering import MANIFESTS, ROOT, rendered_text


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    shutil.copytree(MANIFESTS / "secrets", tmp_path / "secrets", ignore=shutil.ignore_patterns("*.env"))
    return tmp_path / "secrets"


def make(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run([folder / "make.sh"], capture_output=True, text=True, env=environment)


def test_secrets_have_the_names_and_keys_that_pods_read(secrets: Path) -> None:
    assert make(secrets, S3_ACCESS_KEY="key", S3_SECRET_KEY="secret").returncode == 0
    items = [i for part in ("platform", "runs") for i in yaml.safe_load_all(rendered_text(secrets / part))]
    assert {i["metadata"]["name"]: sorted(i["data"]) for i in items} == {
        "mlflow-postgres": ["database", "password", "username"],
        "mlflow-s3": ["accesskey", "secretkey"],
        "undercut-serving-s3": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    }
    annotations = items[-1]["metadata"]["annotations"]
    assert annotations["serving.kserve.io/s3-endpoint"] == "seaweedfs.kubeflow.svc.cluster.local:9000"
    assert annotations["serving.kserve.io/s3-usehttps"] == "0"


def test_a_second_call_leaves_the_password(secrets: Path) -> None:
    make(secrets, S3_ACCESS_KEY="key", S3_SECRET_KEY="secret")
    path = secrets / "platform/mlflow-postgres.env"
    before = path.read_text()
    make(secrets, S3_ACCESS_KEY="other", S3_SECRET_KEY="secret")
    assert path.read_text() == before
    assert len(before.split("password=")[1].strip()) == 48
    assert "accesskey=other\n" in (secrets / "platform/mlflow-s3.env").read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_keys_it_fails(secrets: Path, tmp_path: Path) -> None:
    done = make(secrets, KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path))
    assert done.returncode != 0
    assert not (secrets / "platform/mlflow-s3.env").exists()


def test_git_ignores_them() -> None:
    paths = ["manifests/secrets/platform/mlflow-s3.env", "manifests/secrets/runs/undercut-serving-s3.env"]
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == paths
