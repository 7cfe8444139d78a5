from pathlib import Path

import numpy as np
import onnx
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.predictors import BatchTokenizer, FloatArray
from undercut.quantize.export import QuantizeConfig, export_onnx, quantize
from undercut.quantize.int8 import (
    calibration_batches,
    divergence,
    embeddings,
    onnx_logits,
    prepare,
    quantize_int8_mixed,
    quantize_int8_static,
    weighted_products,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(tiny_teacher, path)
    return prepare(path)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_layers_weights_are_found(exported: Path) -> None:
    assert len(weighted_products(exported)) == 2 * 6 + 2  # two layers of six, pooler, classifier
    assert len(embeddings(exported)) >= 1


def test_calibration_batches_are_of_one_shape_without_padding() -> None:
    ids = [[2, *range(10, 10 + n), 3] for n in range(1, 41)]
    batches = calibration_batches(ids, 20)
    assert [batch.shape for batch, _ in batches] == [(16, 22)]
    assert all(mask.all() for _, mask in batches)
    assert all((batch[:, 0] == 2).all() and (batch[:, -1] == 3).all() for batch, _ in batches)
    assert [batch.shape for batch, _ in calibration_batches(ids[:3], 20)] == [(2, 4)]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_static_scales_come_from_rows(
    exported: Path, tiny_teacher: Path, small_data: Path, tmp_path: Path, method: str
) -> None:
    texts, _ = artifacts.texts_and_labels(small_data, "train")
    tokenizer = BatchTokenizer(tiny_teacher, 64)
    quantize_int8_static(exported, tmp_path / "q.onnx", calibration_batches(tokenizer.ids(texts), 64), method)
    assert operators(tmp_path / "q.onnx").count("DequantizeLinear") >= 2 * 14
    assert "DynamicQuantizeLinear" not in operators(tmp_path / "q.onnx")
    held = [tokenizer.padded(artifacts.texts_and_labels(small_data, "test")[0])]
    before, after = onnx_logits(exported, held), onnx_logits(tmp_path / "q.onnx", held)
    assert (before.argmax(1) == after.argmax(1)).mean() > 0.97


def test_mixed_leaves_the_worst_in_fp32(exported: Path, tmp_path: Path) -> None:
    """The answers stand in for a model that one product's int8 ruins: that product alone must stay."""
    products = weighted_products(exported)
    fragile = products[3]

    def quantized(path: Path) -> set[str]:
        kept = set(weighted_products(path))
        return {name for name in products if name not in kept}

    def answer(path: Path) -> FloatArray:
        ruined = fragile in quantized(path)
        return np.array([[0.0, 1.0], [1.0, 0.0]] if ruined else [[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)

    found = quantize_int8_mixed(exported, tmp_path / "q.onnx", answer, agreement=1.0)
    assert found["in_fp32"] == [fragile]
    assert found["sensitivity"][0] > 0.1
    assert quantized(tmp_path / "q.onnx") == set(products) - {fragile}


@pytest.mark.slow
def test_mixed_keeps_nothing_where_int8_does_no_harm(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    for precision in ("int8", "int8-mixed"):
        config = QuantizeConfig(precision=precision, mixed_agreement=0.9)
        quantize(tiny_teacher, small_data, tmp_path / precision, config)
    manifest = artifacts.verify(tmp_path / "int8-mixed", artifacts.MODEL)
    assert manifest["parameters"]["in_fp32"] == []
    dynamic, mixed = (tmp_path / name / "model.onnx" for name in ("int8", "int8-mixed"))
    assert dynamic.read_bytes() == mixed.read_bytes()


def test_divergence_is_zero_for_the_same_answers() -> None:
    logits = np.array([[1.0, 2.0], [0.0, 3.0]], dtype=np.float32)
    assert divergence(logits, logits + 7) == pytest.approx(0, abs=1e-6)
    assert divergence(logits, logits[:, ::-1]) > 1


@pytest.mark.parametrize(("setting", "value"), [("calibration_rows", 0), ("mixed_agreement", 0.0)])
def test_settings_are_checked(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting}: got"):
        QuantizeConfig(**{setting: value})  # type: ignore[arg-type]
