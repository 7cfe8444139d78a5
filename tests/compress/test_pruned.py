from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification
from undercut import artifacts
from undercut.compress.pruned import kept_width, sizes
from undercut.compress.structures import compress
from undercut.errors import CandidateLost
from undercut.predictors import load_predictor


def test_the_cut_model_is_smaller_loads_and_knows_the_task(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    compress("pruned-1x25", tiny_teacher, small_data, tmp_path / "model", seed=0)
    manifest, teacher = (artifacts.verify(p, artifacts.MODEL) for p in (tmp_path / "model", tiny_teacher))
    assert manifest["structure"] == "pruned-1x25"
    assert manifest["parameters"]["feed_forward_width"] == 32
    assert len(manifest["parameters"]["layers"]) == 1
    one_layer, neurons = 33_472, 96 * (64 + 1 + 64)
    assert manifest["parameter_count"] == teacher["parameter_count"] - one_layer - neurons
    assert manifest["files"].keys() == teacher["files"].keys()
    assert manifest["bytes"] < teacher["bytes"] - 4 * (one_layer + neurons) + 2000
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", local_files_only=True)
    assert loaded.config.num_hidden_layers == 1
    assert loaded.bert.encoder.layer[0].intermediate.dense.weight.shape == (32, 64)
    texts, labels = artifacts.texts_and_labels(small_data, "test")
    assert (load_predictor(tmp_path / "model").probabilities(texts).argmax(1) == labels).mean() > 0.97


@pytest.mark.parametrize(("argument", "found"), [("", (6, 50)), ("25", (6, 25)), ("4x50", (4, 50)), ("6x9", (6, 9))])
def test_an_argument_is_layers_and_percent(argument: str, found: tuple[int, int]) -> None:
    assert sizes(argument, 6) == found


def test_more_layers_than_there_are_lose() -> None:
    with pytest.raises(CandidateLost, match="7 layers cannot stay of 6"):
        sizes("7x50", 6)


@pytest.mark.parametrize(("width", "percent", "kept"), [(1536, 50, 768), (1536, 33, 512), (128, 99, 127), (8, 1, 1)])
def test_widths_are_multiples_of_a_register(width: int, percent: int, kept: int) -> None:
    assert kept_width(width, percent) == kept
