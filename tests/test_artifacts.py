import json
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocabulary.json").write_text('{"a": 1}')
    artifacts.seal(folder, artifacts.MODEL, {"labels": ["no", "yes"], "lost": ""})
    return folder


def test_seal_and_verify(model: Path) -> None:
    manifest = artifacts.verify(model, artifacts.MODEL)
    assert manifest["bytes"] == 8
    assert manifest["files"] == {"vocabulary.json": "f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310"}
    assert artifacts.verify(model, artifacts.MODEL, expected=manifest["digest"]) == manifest


def test_digest_is_of_content_and_not_of_the_ledger(model: Path) -> None:
    before = artifacts.load(model, artifacts.MODEL)
    artifacts.write_json(model / artifacts.MODEL, before | {"ledger": [{"id": "x", "seconds": 3}]})
    assert artifacts.verify(model, artifacts.MODEL)["digest"] == before["digest"]


@pytest.mark.parametrize("change", ["file", "extra", "missing", "label", "digest", "pickle"])
def test_a_tampered_folder_is_refused(model: Path, change: str) -> None:
    expected = artifacts.load(model, artifacts.MODEL)["digest"]
    manifest = json.loads((model / artifacts.MODEL).read_text())
    match change:
        case "file":
            (model / "vocabulary.json").write_text('{"a": 2}')
        case "extra":
            (model / "extra.json").write_text("{}")
        case "missing":
            (model / "vocabulary.json").unlink()
        case "label":
            manifest["labels"] = ["yes", "no"]
            artifacts.write_json(model / artifacts.MODEL, manifest)
        case "digest":
            (model / "vocabulary.json").write_text('{"a": 2}')
            artifacts.seal(model, artifacts.MODEL, artifacts.content(manifest))
        case "pickle":
            (model / "weights.pkl").write_bytes(b"\x80\x04.")
            expected = artifacts.seal(model, artifacts.MODEL, artifacts.content(manifest))["digest"]
    with pytest.raises(ConfigurationError, match="Restore the folder"):
        artifacts.verify(model, artifacts.MODEL, expected=expected)


def test_a_file_that_is_not_what_its_name_says_is_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\x80\x04K\x01.not tensors")
    artifacts.seal(model, artifacts.MODEL, artifacts.content(artifacts.load(model, artifacts.MODEL)))
    with pytest.raises(ConfigurationError, match="not a safetensors file"):
        artifacts.verify(model, artifacts.MODEL)


def test_read_split_joins_shards(tmp_path: Path, small_data: Path) -> None:
    import pyarrow.parquet as pq

    table = artifacts.read_split(small_data, "train")
    pq.write_table(table.slice(0, 100), tmp_path / "train-00000.parquet")
    pq.write_table(table.slice(100), tmp_path / "train-00001.parquet")
    assert artifacts.read_split(tmp_path, "train").equals(table)
    with pytest.raises(ConfigurationError, match="split"):
        artifacts.read_split(tmp_path, "test")
