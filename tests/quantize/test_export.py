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
