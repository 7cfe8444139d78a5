from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from tokenizers import Tokenizer
from undercut import artifacts
from undercut.errors import CandidateLost, ConfigurationError
from undercut.predictors import BatchTokenizer, load_predictor, pad, softmax


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([[2, 7, 3], [2, 3], [2]])
    assert ids.tolist() == [[2, 7, 3], [2, 3, 0], [2, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_softmax_is_that_of_scipy_and_does_not_overflow() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (20, 7)).astype(np.float32)
    assert softmax(logits) == pytest.approx(scipy.special.softmax(logits, axis=1), abs=1e-6)
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert softmax(logits.astype(np.float64)).dtype == np.float32


def test_tokens_are_those_of_the_tokenizer_cut_at_the_limit(tiny_base: Path) -> None:
    reference = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    texts = ["where is my refund", "", "cancel my order please, it is urgent"]
    whole = BatchTokenizer(tiny_base, 64)
    assert whole.ids(texts) == [reference.encode(text).ids for text in texts]
    assert whole.ids([""]) == [[2, 3]]
    cut = BatchTokenizer(tiny_base, 5).ids(texts)
    assert [len(ids) for ids in cut] == [5, 2, 5]
    assert [ids[-1] for ids in cut] == [3, 3, 3]


def test_an_unseen_or_empty_text_has_an_answer(linear_model: Path) -> None:
    found = load_predictor(linear_model).probabilities(["", "🙂", "\x00", "refund " * 10_000])
    assert found.shape == (4, 3)
    assert found.sum(1) == pytest.approx(np.ones(4), abs=1e-5)


def test_a_lost_candidate_gives_its_reason(lost_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CandidateLost, match=r"^it answers differently$"):
        load_predictor(lost_model(tmp_path / "model"))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    artifacts.seal(tmp_path / "model", artifacts.MODEL, {"format": "pickle", "lost": ""})
    with pytest.raises(
        ConfigurationError, match=r"model\.format: got 'pickle'; allowed: torch, adapter, onnx, linear or static"
    ):
        load_predictor(tmp_path / "model")


@pytest.mark.parametrize("change", ["weights", "labels", "extra", "digest"])
def test_a_tampered_model_is_not_loaded(
    small_data: Path, make_linear_model: Callable[..., Path], tmp_path: Path, change: str
) -> None:
    model = make_linear_model(tmp_path / "model", small_data, rows=50)
    manifest = artifacts.load(model, artifacts.MODEL)
    expected = manifest["digest"]
    weights = model / "weights.safetensors"
    match change:
        case "weights":
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        case "labels":
            artifacts.write_json(model / artifacts.MODEL, manifest | {"labels": manifest["labels"][::-1]})
        case "extra":
            (model / "custom.py").write_text("raise SystemExit")
        case "digest":
            artifacts.seal(model, artifacts.MODEL, artifacts.content(manifest) | {"labels": ["x", "y", "z"]})
    with pytest.raises(ConfigurationError, match="Restore the folder or produce it again"):
        load_predictor(model, expected_digest=expected)
