from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from undercut import artifacts
from undercut.candidates import PRECISIONS
from undercut.errors import ConfigurationError
from undercut.predictors import load_predictor
from undercut.quantize.export import QuantizeConfig, quantize


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, small_data: Path, tiny_teacher: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("forms")
    for precision in PRECISIONS:
        quantize(tiny_teacher, small_data, root / precision, QuantizeConfig(precision=precision))
    return {p.name: p for p in root.iterdir()}


def test_each_form_answers_as_its_source(forms: dict[str, Path], small_data: Path) -> None:
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    answers = {name: load_predictor(folder).probabilities(texts) for name, folder in forms.items()}
    assert np.abs(answers["as-is"] - answers["fp32"]).max() < 1e-4
    for name in ("int8", "int8-static", "int8-mixed"):
        assert np.abs(answers["as-is"] - answers[name]).mean() < 0.02, name
        assert (answers["as-is"].argmax(1) == answers[name].argmax(1)).mean() > 0.97, name


def test_int8_is_smaller_and_says_what_was_compared(forms: dict[str, Path]) -> None:
    cards = {name: artifacts.verify(folder, artifacts.MODEL) for name, folder in forms.items()}
    sizes = {name: (forms[name] / "model.onnx").stat().st_size for name in ("fp32", "int8")}
    assert sizes["int8"] < 0.6 * sizes["fp32"]
    assert cards["int8"]["metrics"]["conversion"]["rows"] == 115
    assert cards["int8"]["metrics"]["conversion"]["agreement"] > 0.97
    assert [cards[n]["format"] for n in ("as-is", "fp32", "int8")] == ["torch", "onnx", "onnx"]


def test_one_text_and_many_give_the_same(forms: dict[str, Path], small_data: Path) -> None:
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    predictor = load_predictor(forms["fp32"])
    together = predictor.probabilities(texts[:8])
    alone = np.concatenate([predictor.probabilities([text]) for text in texts[:8]])
    assert np.abs(together - alone).max() < 1e-5


def test_a_conversion_that_answers_differently_is_lost(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    config = QuantizeConfig(precision="int8", maximum_difference=0.0)
    quantize(tiny_teacher, small_data, tmp_path / "model", config)
    manifest = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert manifest["lost"].startswith("int8 answers differently from its source: same label on ")
    assert manifest["files"] == {}


def test_precision_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="one of as-is, fp32, int8"):
        QuantizeConfig(precision="int3")


def test_a_wrong_number_of_rows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="compared_rows: got 0; allowed: a whole number from 1"):
        QuantizeConfig(compared_rows=0)


@pytest.mark.parametrize("precision", ["as-is", "int8"])
def test_a_lost_structure_keeps_its_reason_and_gets_the_precision_it_was_wanted_in(
    small_data: Path, lost_model: Callable[..., Path], tmp_path: Path, precision: str
) -> None:
    """Two forms of a lost structure are two candidates, told apart by name and digest."""
    quantize(lost_model(tmp_path / "model"), small_data, tmp_path / "servable", QuantizeConfig(precision=precision))
    manifest = artifacts.verify(tmp_path / "servable", artifacts.MODEL)
    assert (manifest["structure"], manifest["precision"]) == ("linear", precision)
    assert manifest["lost"] == "it answers differently"


def test_a_linear_model_has_no_onnx_form(small_data: Path, linear_model: Path, tmp_path: Path) -> None:
    quantize(linear_model, small_data, tmp_path / "servable", QuantizeConfig(precision="fp32"))
    manifest = artifacts.verify(tmp_path / "servable", artifacts.MODEL)
    assert manifest["lost"] == "fp32 needs a PyTorch model, this one is linear"


@pytest.mark.slow
def test_a_model_that_onnx_cannot_express_is_lost(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Longformer's sliding window depends on the values of its input."""
    from transformers import LongformerConfig, LongformerForSequenceClassification

    config = LongformerConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, attention_window=[8], num_labels=3,
    )  # fmt: skip
    model = tmp_path / "model"
    LongformerForSequenceClassification(config).save_pretrained(model)
    artifacts.copy_files(tiny_base, model, ["tokenizer.json"])
    content = {"format": "torch", "structure": "finetuned", "precision": "as-is", "labels": ["a", "b", "c"]}
    artifacts.seal(model, artifacts.MODEL, content | {"max_length": 32, "parameters": {}, "metrics": {}, "lost": ""})
    quantize(model, small_data, tmp_path / "servable", QuantizeConfig(precision="fp32"))
    manifest = artifacts.verify(tmp_path / "servable", artifacts.MODEL)
    assert manifest["lost"].startswith("fp32 needs ONNX, which cannot express this model: ")
    assert manifest["files"] == {}
