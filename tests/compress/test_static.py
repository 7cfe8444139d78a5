from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from undercut import artifacts
from undercut.compress.static import Rows, principal_components
from undercut.compress.structures import compress
from undercut.deploy.description import requirements
from undercut.predictors import BatchTokenizer, load_predictor


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory, data_with_unlabelled: Path, tiny_teacher: Path) -> Path:
    folder = tmp_path_factory.mktemp("static") / "model"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERCUT_HOME", str(folder.parent / "home"))
    compress("static-32", tiny_teacher, data_with_unlabelled, folder, seed=0)
    patch.undo()
    return folder


def test_it_learns_the_task(static: Path, small_data: Path) -> None:
    manifest = artifacts.verify(static, artifacts.MODEL)
    assert manifest["structure"] == "static-32"
    assert manifest["format"] == "static"
    assert sorted(manifest["files"]) == ["tokenizer.json", "weights.safetensors"]
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    probabilities = load_predictor(static).probabilities(texts)
    assert probabilities.sum(1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    assert (probabilities.argmax(1) == labels).mean() > 0.97


def test_vectors_are_trained_where_tokens_occur_and_kept_where_not(static: Path, tiny_teacher: Path) -> None:
    tensors = load_file(static / "weights.safetensors")
    weights = load_file(tiny_teacher / "model.safetensors")
    embeddings = next(v for k, v in weights.items() if k.endswith("word_embeddings.weight"))
    assert tensors["vectors"].shape == (len(embeddings) + len(tensors["pairs"]), 32)
    start = principal_components(embeddings, 32)
    moved = np.abs(tensors["vectors"][: len(embeddings)].astype(np.float32) - start).max(1) > 1e-3
    assert moved[2], "[CLS] is in every text"
    assert not moved[1], "[UNK] is in none"
    assert len(tensors["pairs"]) > 50


def test_serving_it_takes_a_tokenizer_and_no_pytorch(static: Path) -> None:
    names = [line.partition("==")[0] for line in requirements(artifacts.load(static, artifacts.MODEL))]
    assert names == ["undercut", "numpy", "safetensors", "tokenizers"]


def test_the_same_each_time(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    for name in "ab":
        compress("static-16", tiny_teacher, small_data, tmp_path / name, seed=0)
    a, b = (artifacts.load(tmp_path / name, artifacts.MODEL)["digest"] for name in "ab")
    assert a == b
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


def test_rows_are_those_that_occur(tiny_base: Path) -> None:
    rows = Rows(BatchTokenizer(tiny_base, 32), 200, ["my refund", "my refund now"], minimum_pair_texts=2)
    assert len(rows.used) == 2 + 3 + 2  # [CLS], [SEP]; three words; "[CLS] my", "my refund"
    assert [len(row) for row in rows(["my refund", "now now", "cancel"])] == [6, 4, 2]


def test_components_keep_distances() -> None:
    embeddings = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    whole = principal_components(embeddings, 6)
    assert whole.std() == pytest.approx(0.5, abs=1e-5)
    before, after = (np.linalg.norm(e[:1] - e[1:], axis=1) for e in (embeddings, whole))
    assert after / before == pytest.approx(np.full(49, (after / before)[0]), rel=1e-4)
    assert principal_components(embeddings, 2)[:, 0].std() > principal_components(embeddings, 2)[:, 1].std()
