"""Model folders on a real S3 server."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts, storage
from undercut.deploy import release as module
from undercut.deploy.release import release
from undercut.errors import ConfigurationError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def releases(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"s3://data/private/{tmp_path.name}/releases"
    monkeypatch.setenv("UNDERCUT_RELEASES", uri)
    return uri


def keys(bucket: Any, uri: str) -> dict[str, Any]:
    """Return the objects under an address, each with the time of its last change."""
    prefix = uri.removeprefix("s3://data/")
    found = bucket.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", [])
    return {entry["Key"].removeprefix(prefix): entry["LastModified"] for entry in found}


def test_it_is_sent_once_and_comes_back_whole(linear_model: Path, releases: str, bucket: Any) -> None:
    manifest = artifacts.verify(linear_model, artifacts.MODEL)
    uri = release(linear_model, manifest, "shop")
    assert uri == f"{releases}/shop/{manifest['digest']}/"
    before = keys(bucket, uri)
    assert before.keys() == {*manifest["files"], "model.json"}
    assert release(linear_model, manifest, "shop") == uri
    assert keys(bucket, uri) == before
    folder = storage.local_path(uri, "model")
    assert artifacts.verify(folder, artifacts.MODEL, manifest["digest"])["digest"] == manifest["digest"]


def test_a_half_finished_copy_is_finished_manifest_last(
    linear_model: Path, releases: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = artifacts.verify(linear_model, artifacts.MODEL)
    sent: list[str] = []
    put = module._Store.put

    def stop_after_one(self: Any, path: Path, relative: str) -> None:
        if sent:
            raise KeyboardInterrupt
        sent.append(relative)
        put(self, path, relative)

    monkeypatch.setattr(module._Store, "put", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        release(linear_model, manifest, "shop")
    uri = f"{releases}/shop/{manifest['digest']}/"
    assert keys(bucket, uri).keys() == set(sent)
    monkeypatch.setattr(module._Store, "put", put)
    release(linear_model, manifest, "shop")
    assert keys(bucket, uri).keys() == {*manifest["files"], "model.json"}


def test_a_spoilt_object_is_sent_again(linear_model: Path, bucket: Any) -> None:
    manifest = artifacts.verify(linear_model, artifacts.MODEL)
    uri = release(linear_model, manifest, "shop")
    prefix = uri.removeprefix("s3://data/")
    bucket.put_object(Bucket="data", Key=f"{prefix}vocabulary.json", Body=b"{}")
    bucket.delete_object(Bucket="data", Key=f"{prefix}weights.safetensors")
    release(linear_model, manifest, "shop")
    artifacts.verify(storage.local_path(uri, "model"), artifacts.MODEL, manifest["digest"])


def test_a_folder_that_changes_meanwhile_is_not_released(linear_model: Path, tmp_path: Path, bucket: Any) -> None:
    manifest = artifacts.verify(linear_model, artifacts.MODEL)
    copied = shutil.copytree(linear_model, tmp_path / "model")
    (copied / "vocabulary.json").write_text("{}")
    with pytest.raises(module.DeploymentError, match=r"vocabulary\.json is not what was sent: its SHA-256 differs"):
        release(copied, manifest, "shop")
    uri = f"s3://data/private/{tmp_path.name}/releases/shop/{manifest['digest']}/"
    assert "model.json" not in keys(bucket, uri)


def test_credentials_that_are_wrong(linear_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = artifacts.load(linear_model, artifacts.MODEL)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    words = r"UNDERCUT_RELEASES: got 's3://data/private/.*allowed: a folder of a bucket that may be read and written\."
    with pytest.raises(ConfigurationError, match=words):
        release(linear_model, manifest, "shop")
