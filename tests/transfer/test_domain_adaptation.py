from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from undercut import artifacts, launch
from undercut.base_models import find_base
from undercut.errors import ConfigurationError
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
from undercut.storage import digest
from undercut.transfer.comparison import verdict
from undercut.transfer.domain_adaptation import load, transfer
from undercut.transfer.layers import encoder_layers, freeze, thaw
from undercut.transfer.settings import TransferConfig

SETTINGS = {"sequence_length": 32, "batch_tokens": 512, "learning_rate": 2e-3, "max_steps": 20}


@pytest.fixture(scope="module")
def transferred(
    tmp_path_factory: pytest.TempPathFactory, small_text: Path, small_data: Path, tiny_base: Path
) -> artifacts.Manifest:
    output = tmp_path_factory.mktemp("transferred") / "model"
    config = TransferConfig(
        **SETTINGS, base_model=str(tiny_base), frozen_layers=1, comparison_rows=150, comparison_epochs=1
    )
    return transfer(small_text, small_data, output, config) | {"folder": output}


@pytest.mark.slow
def test_it_says_what_it_bought(transferred: artifacts.Manifest, small_data: Path) -> None:
    metrics = transferred["metrics"]
    artifacts.verify(transferred["folder"], artifacts.MODEL)
    assert metrics["fresh_head"] is True
    assert "fresh head" in metrics["before"]["what"]
    assert metrics["perplexity"] < metrics["before"]["perplexity"]
    assert metrics["before"]["tokens"] == metrics["computed_on"]["tokens_guessed"]
    downstream = metrics["downstream"]
    assert downstream["rows"] == 115
    assert downstream["train_rows"] == 150
    gained = downstream["accuracy"]["transferred"] - downstream["accuracy"]["original"]
    assert downstream["difference"]["value"] == pytest.approx(gained)
    assert downstream["worth_it"] is (downstream["difference"]["low"] > 0)


@pytest.mark.resilience
def test_two_processes_compare_the_base_that_they_made(
    transferred: artifacts.Manifest, small_text: Path, small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """transformers saves in the first process alone; each process trains on what it made."""
    config = TransferConfig(
        **SETTINGS, base_model=str(tiny_base), frozen_layers=1, comparison_rows=150, comparison_epochs=1
    )
    inputs = {
        name: SimpleNamespace(path=str(p), uri=str(p)) for name, p in (("unlabelled", small_text), ("data", small_data))
    }
    output = SimpleNamespace(path=str(tmp_path / "model"), uri=str(tmp_path / "model"))
    launch.launch("transfer", {"processes": 2}, inputs, {"output": output}, config=config)
    made = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert made["metrics"]["perplexity"] == pytest.approx(transferred["metrics"]["perplexity"], rel=0.05)
    assert made["metrics"]["downstream"]["train_rows"] == 150


@pytest.mark.slow
def test_frozen_layers_and_the_pooler_are_the_base_s(transferred: artifacts.Manifest, tiny_base: Path) -> None:
    before, after = (load_file(p / "model.safetensors") for p in (tiny_base, transferred["folder"]))
    changed = {k for k, v in before.items() if not np.array_equal(v, after[f"bert.{k}"])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)
    assert "pooler.dense.weight" in before


@pytest.mark.slow
def test_finetune_and_transfer_start_from_it(
    transferred: artifacts.Manifest, small_data: Path, small_text: Path, tmp_path: Path
) -> None:
    base = str(transferred["folder"])
    config = FinetuneConfig(base_model=base, epochs=1, learning_rate=1e-3, max_length=32, refit=False)
    assert finetune(small_data, tmp_path / "model", config)["metrics"]["curve"]
    again = TransferConfig(**{**SETTINGS, "max_steps": 2}, base_model=base, comparison_rows=0)
    metrics = transfer(small_text, small_data, tmp_path / "again", again)["metrics"]
    assert metrics["fresh_head"] is False
    assert metrics["before"]["perplexity"] == pytest.approx(transferred["metrics"]["perplexity"], rel=0.05)
    assert metrics["downstream"] == {"worth_it": None, "reason": "not compared: comparison_rows is 0"}


def test_layers_thaw_from_the_top(tiny_base: Path) -> None:
    model, fresh = load(tiny_base, seed=0)
    assert fresh

    def trained() -> list[bool]:
        parts = [model.base_model.embeddings, *encoder_layers(model)]
        assert all(p.requires_grad for n, p in model.cls.named_parameters() if "decoder.weight" not in n)
        return [all(p.requires_grad for p in part.parameters()) for part in parts]

    states = []
    for interval in range(4):
        thaw(model, 0, interval, gradual=True, head_first=True)
        states.append(trained())
    assert states == [[False] * 3, [False, False, True], [False, True, True], [True] * 3]
    thaw(model, 0, 0, gradual=True, head_first=False)
    assert trained() == [False, False, True]
    thaw(model, 0, 1, gradual=False, head_first=True)
    assert trained() == [True] * 3
    freeze(model, 1)
    thaw(model, 1, 3, gradual=True, head_first=False)
    assert trained() == [False, False, True]


def test_a_verdict_needs_the_whole_interval() -> None:
    base = np.arange(400) % 2 == 0
    better = base | (np.arange(400) % 10 == 1)
    assert verdict(base, better, seed=0)["worth_it"] is True
    assert verdict(base, better, seed=0)["difference"]["value"] == pytest.approx(0.1)
    equal = verdict(base, base, seed=0)
    assert equal["worth_it"] is False
    assert "not shown to be better" in equal["reason"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("masking", "span"), ("unfreezing", "sudden"), ("frozen_layers", -1), ("comparison_epochs", 0), ("epochs", -1)],
)
def test_a_wrong_setting_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: got"):
        TransferConfig(**{setting: value})  # type: ignore[arg-type]


def test_impossible_requests_are_refused_before_training(
    tiny_base: Path, small_text: Path, small_data: Path, tmp_path: Path
) -> None:
    cases = {"sequence_length": 128, "frozen_layers": 2, "max_steps": 5}
    for name, value in cases.items():
        config = TransferConfig(**{**SETTINGS, name: value}, base_model=str(tiny_base))
        with pytest.raises(ConfigurationError, match="epochs" if name == "max_steps" else name):
            transfer(small_text, small_data, tmp_path / name, config)


def test_zero_epochs_hand_the_base_on(tiny_base: Path, small_data: Path, tmp_path: Path) -> None:
    manifest = transfer(small_data, small_data, tmp_path / "base", TransferConfig(epochs=0, base_model=str(tiny_base)))
    artifacts.verify(tmp_path / "base", artifacts.MODEL)
    assert manifest["structure"] == "base"
    weights = (p / "model.safetensors" for p in (tiny_base, tmp_path / "base"))
    assert next(weights).read_bytes() == next(weights).read_bytes()
    folder, origin = find_base("elsewhere", tmp_path / "base")
    assert (folder, origin) == (tmp_path / "base", {"uri": str(tiny_base), "digest": digest(tiny_base)})


def test_what_a_manifest_says_of_a_transferred_base(tiny_base: Path, tmp_path: Path) -> None:
    transfer(tmp_path, tmp_path, tmp_path / "made", TransferConfig(epochs=0, base_model=str(tiny_base)))
    content = artifacts.content(artifacts.load(tmp_path / "made", artifacts.MODEL))
    sealed = artifacts.seal(tmp_path / "made", artifacts.MODEL, {**content, "structure": "transferred"})
    expected = {"uri": str(tiny_base), "digest": sealed["digest"], "structure": "transferred"}
    assert find_base("elsewhere", tmp_path / "made")[1] == expected
    artifacts.seal(tmp_path / "made", artifacts.MODEL, {**content, "lost": "it was left out"})
    with pytest.raises(ConfigurationError, match="it was left out"):
        find_base("elsewhere", tmp_path / "made")
