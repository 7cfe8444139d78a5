"""The scorer against the same arithmetic written out, text by text."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from undercut.predictors import BatchTokenizer, softmax
from undercut.static import StaticModel, TokenPairs

TEXTS = ["where is my refund", "cancel my order please", "", "refund refund my refund"]


def random_tensors(tokens: int, pairs: list[int], labels: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    rows = tokens + len(pairs)
    return {
        "vectors": generator.normal(size=(rows, 8)).astype(np.float16).astype(np.float32),
        "weights": generator.uniform(0.5, 2, size=rows).astype(np.float32),
        "pairs": np.array(pairs, dtype=np.int64),
        "hidden": generator.normal(size=(8, 6)).astype(np.float32),
        "hidden_bias": generator.normal(size=6).astype(np.float32),
        "head": generator.normal(size=(6, labels)).astype(np.float32),
        "bias": generator.normal(size=labels).astype(np.float32),
    }


def written_out(ids: list[int], tensors: dict[str, np.ndarray], tokens: int) -> np.ndarray:
    known = {pair: tokens + i for i, pair in enumerate(tensors["pairs"].tolist())}
    rows = ids + [known[a * tokens + b] for a, b in itertools.pairwise(ids) if a * tokens + b in known]
    weights = tensors["weights"][rows]
    mean = (tensors["vectors"][rows] * weights[:, None]).sum(0) / weights.sum()
    hidden = np.maximum(mean @ tensors["hidden"] + tensors["hidden_bias"], 0)
    return softmax(hidden @ tensors["head"] + tensors["bias"])


@pytest.fixture
def model(tiny_base: Path) -> StaticModel:
    tokenizer = BatchTokenizer(tiny_base, 32)
    tokens = len(load_file(tiny_base / "model.safetensors")["embeddings.word_embeddings.weight"])
    pairs = sorted({a * tokens + b for ids in tokenizer.ids(TEXTS[:2]) for a, b in itertools.pairwise(ids)})
    return StaticModel(tokenizer, random_tensors(tokens, pairs, 3), ("a", "b", "c"))


def test_scores_are_the_weighted_mean_through_the_network(model: StaticModel, tiny_base: Path) -> None:
    tokens = len(model.tensors["vectors"]) - len(model.tensors["pairs"])
    wanted = [written_out(ids, model.tensors, tokens) for ids in BatchTokenizer(tiny_base, 32).ids(TEXTS)]
    assert model.probabilities(TEXTS) == pytest.approx(np.array(wanted), abs=1e-5)


def test_one_text_and_many_give_the_same(model: StaticModel) -> None:
    alone = np.concatenate([model.probabilities([text]) for text in TEXTS])
    assert model.probabilities(TEXTS) == pytest.approx(alone, abs=1e-6)


def test_pairs_do_not_cross_texts() -> None:
    pairs = TokenPairs(np.array([1 * 10 + 2, 2 * 10 + 3]), tokens=10)
    rows, starts = pairs.rows([[1, 2], [3], [1, 2, 3]])
    assert rows.tolist() == [1, 2, 10, 3, 1, 2, 3, 10, 11]
    assert starts.tolist() == [0, 3, 4]
    assert TokenPairs(np.array([], dtype=np.int64), 10).rows([[1, 2]])[0].tolist() == [1, 2]


def test_save_and_load_score_alike(model: StaticModel, tiny_base: Path, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_base / "tokenizer.json").read_bytes())
    loaded = StaticModel.load(tmp_path, ("a", "b", "c"), 32)
    assert loaded.probabilities(TEXTS) == pytest.approx(model.probabilities(TEXTS), abs=1e-6)
    assert load_file(tmp_path / "weights.safetensors")["vectors"].dtype == np.float16


def test_scoring_needs_no_pytorch() -> None:
    code = "import sys; sys.modules.update(torch=None, transformers=None, onnxruntime=None); import undercut.static"
    subprocess.run([sys.executable, "-c", code], check=True)
