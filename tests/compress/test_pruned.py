from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification
from undercut import artifacts
from undercut.candidates import parse_candidates
from undercut.compress.pruned import Sizes, kept_heads, kept_width
from undercut.compress.structures import compress
from undercut.encoders import load_classifier
from undercut.errors import CandidateLost, ConfigurationError
from undercut.predictors import load_predictor
from undercut.quantize.export import QuantizeConfig, quantize


def test_the_cut_model_is_smaller_loads_and_knows_the_task(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    compress("pruned-1x25", tiny_teacher, small_data, tmp_path / "model", seed=0)
    manifest, teacher = (artifacts.verify(p, artifacts.MODEL) for p in (tmp_path / "model", tiny_teacher))
    assert manifest["structure"] == "pruned-1x25"
    assert manifest["parameters"]["feed_forward_width"] == 32
    assert len(manifest["parameters"]["layers"]) == 1
    assert "heads" not in manifest["parameters"]
    one_layer, neurons = 33_472, 96 * (64 + 1 + 64)
    assert manifest["parameter_count"] == teacher["parameter_count"] - one_layer - neurons
    assert manifest["files"].keys() == teacher["files"].keys()
    assert manifest["bytes"] < teacher["bytes"] - 4 * (one_layer + neurons) + 2000
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", local_files_only=True)
    assert loaded.config.num_hidden_layers == 1
    assert loaded.bert.encoder.layer[0].intermediate.dense.weight.shape == (32, 64)
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    assert (load_predictor(tmp_path / "model").probabilities(texts).argmax(1) == labels).mean() > 0.97


@pytest.fixture(scope="module")
def few_heads(tmp_path_factory: pytest.TempPathFactory, small_data: Path, tiny_teacher: Path) -> Path:
    """The tiny teacher with both layers, three quarters of its neurons and three of its eight heads."""
    folder = tmp_path_factory.mktemp("heads") / "model"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERCUT_HOME", str(folder.parent / "home"))
    compress("pruned-2x75x40", tiny_teacher, small_data, folder, seed=0)
    patch.undo()
    return folder


def test_heads_are_cut_out_of_weights_and_parameters(few_heads: Path, small_data: Path, tiny_teacher: Path) -> None:
    manifest, teacher = (artifacts.verify(p, artifacts.MODEL) for p in (few_heads, tiny_teacher))
    heads = manifest["parameters"]["heads"]
    assert sum(heads) == 3
    assert min(heads) >= 1
    assert "3 of their 8 attention heads" in manifest["method"]
    a_head, a_neuron = 3 * 16 * 65 + 16 * 64, 64 + 1 + 64
    assert manifest["parameter_count"] == teacher["parameter_count"] - 5 * a_head - 2 * 32 * a_neuron
    layers = load_classifier(few_heads).get_submodule("bert.encoder.layer")
    for layer, count in zip(layers, heads, strict=True):
        assert layer.attention.self.query.weight.shape == (16 * count, 64)
        assert layer.attention.output.dense.weight.shape == (64, 16 * count)
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    assert (load_predictor(few_heads).probabilities(texts).argmax(1) == labels).mean() > 0.97


def multiplications(path: Path) -> int:
    """Return the multiplications a token that an ONNX file's products with constant weights take."""
    graph = onnx.load(path).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    return sum(sizes.get(n.input[1], 0) for n in graph.node if n.op_type in ("MatMul", "Gemm"))


@pytest.mark.slow
def test_the_exported_graph_has_the_smaller_products_and_answers_alike(
    few_heads: Path, small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    for name, model, precision in (
        ("whole", tiny_teacher, "fp32"),
        ("cut", few_heads, "fp32"),
        ("int8", few_heads, "int8"),
    ):
        manifest = quantize(model, small_data, tmp_path / name, QuantizeConfig(precision=precision))
        assert manifest["lost"] == ""
    heads = artifacts.load(few_heads, artifacts.MODEL)["parameters"]["heads"]
    shapes = sorted(
        tuple(tensor.dims)
        for tensor in onnx.load(tmp_path / "cut" / "model.onnx").graph.initializer
        if tensor.dims and set(tensor.dims) in ({64, 16 * count} for count in heads)
    )
    assert len([s for s in shapes if len(s) == 2]) >= 4 * len(heads)
    cut, whole = (multiplications(tmp_path / name / "model.onnx") for name in ("cut", "whole"))
    assert whole - cut == 5 * 4 * 16 * 64 + 2 * 32 * 2 * 64
    texts, _ = artifacts.texts_and_labels(small_data, "test")
    torch_, onnx_, int8 = (
        load_predictor(p).probabilities(texts) for p in (few_heads, tmp_path / "cut", tmp_path / "int8")
    )
    assert np.abs(torch_ - onnx_).max() < 1e-4
    assert (torch_.argmax(1) == int8.argmax(1)).mean() > 0.97
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 0.7 * (tmp_path / "cut" / "model.onnx").stat().st_size


def test_a_model_with_cut_heads_is_itself_a_teacher(few_heads: Path, small_data: Path, tmp_path: Path) -> None:
    """A distilled layer of it has as many heads as the layer had; cut again, it has fewer."""
    before = artifacts.load(few_heads, artifacts.MODEL)["parameters"]["heads"]
    compress("distilled-1", few_heads, small_data, tmp_path / "distilled", seed=0)
    distilled = artifacts.verify(tmp_path / "distilled", artifacts.MODEL)
    assert distilled["parameters"]["heads"] == [before[1]]
    compress("pruned-2x100x70", few_heads, small_data, tmp_path / "pruned", seed=0)
    pruned = artifacts.verify(tmp_path / "pruned", artifacts.MODEL)
    assert pruned["parameters"]["heads"] == [1, 1]
    for folder in ("distilled", "pruned"):
        assert load_predictor(tmp_path / folder).probabilities(["where is my refund"]).shape == (1, 3)


def test_other_attentions_lose(tmp_path: Path, small_data: Path, tiny_teacher: Path) -> None:
    from transformers import MPNetConfig, MPNetForSequenceClassification

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(0)
    MPNetForSequenceClassification(MPNetConfig(vocab_size=600, num_labels=3, **sizes)).save_pretrained(tmp_path / "t")
    artifacts.copy_files(tiny_teacher, tmp_path / "t", ["tokenizer.json"])
    card = artifacts.content(artifacts.load(tiny_teacher, artifacts.MODEL))
    artifacts.seal(tmp_path / "t", artifacts.MODEL, card)
    compress("pruned-2x50x50", tmp_path / "t", small_data, tmp_path / "model", seed=0)
    lost = artifacts.load(tmp_path / "model", artifacts.MODEL)["lost"]
    assert lost == "the attention of MPNetForSequenceClassification is not that of BERT: cannot slice its heads"


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("", (6, 50, 100)),
        ("25", (6, 25, 100)),
        ("4x50", (4, 50, 100)),
        ("6x9", (6, 9, 100)),
        ("4x100x50", (4, 100, 50)),
    ],
)
def test_an_argument_is_layers_and_percents(argument: str, found: tuple[int, int, int]) -> None:
    sizes = Sizes.of(argument, 6)
    assert (sizes.layers, sizes.neurons, sizes.heads) == found
    if argument:
        assert parse_candidates([f"pruned-{argument}/int8"])[0].structure == f"pruned-{argument}"


@pytest.mark.parametrize("argument", ["0x50", "4x50x0", "4x50x100", "100", "4x50x50x50", "x50", "4x"])
def test_an_argument_of_another_form_is_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError, match="pruned-LxPxH"):
        parse_candidates([f"pruned-{argument}"])


def test_more_layers_than_there_are_lose() -> None:
    with pytest.raises(CandidateLost, match="7 layers cannot stay of 6"):
        Sizes.of("7x50", 6)


@pytest.mark.parametrize(("width", "percent", "kept"), [(1536, 50, 768), (1536, 33, 512), (128, 99, 127), (8, 1, 1)])
def test_widths_are_multiples_of_a_register(width: int, percent: int, kept: int) -> None:
    assert kept_width(width, percent) == kept


def test_heads_are_ranked_over_layers_of_equal_weight_and_each_keeps_one() -> None:
    """The second layer's gradients are a hundred times the first's; the third has one head that counts."""
    importances = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([300.0, 100.0, 200.0]), torch.tensor([0.0, 9.0, 0.0])]
    assert [heads.tolist() for heads in kept_heads(importances, 56)] == [[1, 2], [0, 2], [1]]
    assert [heads.tolist() for heads in kept_heads(importances, 1)] == [[2], [0], [1]]
    assert [heads.tolist() for heads in kept_heads([torch.zeros(4)], 50)] == [[0, 1]]
