import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from undercut import adapter_settings, adapters, artifacts
from undercut.adapter_settings import AdapterConfig
from undercut.compress.structures import compress
from undercut.errors import CandidateLost, ConfigurationError
from undercut.finetune.classifier import finetune, load_base
from undercut.finetune.settings import FinetuneConfig
from undercut.predictors import load_predictor
from undercut.quantize.export import QuantizeConfig, quantize
from undercut.storage import digest

from tests.kills import kill_when

SETTINGS = {"epochs": 2, "batch_tokens": 512, "max_length": 32, "adapter_rank": 4, "virtual_tokens": 4}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, tiny_base: Path
) -> dict[str, tuple[Path, Path]]:
    """Each method's model folder and adapter folder."""
    root = tmp_path_factory.mktemp("methods")
    before = os.environ.get("UNDERCUT_HOME")
    os.environ["UNDERCUT_HOME"] = str(root / "home")
    for method in adapter_settings.METHODS:
        config = FinetuneConfig(base_model=str(tiny_base), method=method, refit=False, **SETTINGS)
        finetune(small_data, root / method, config, root / f"{method}-adapter")
    if before is None:
        del os.environ["UNDERCUT_HOME"]
    else:
        os.environ["UNDERCUT_HOME"] = before
    return {method: (root / method, root / f"{method}-adapter") for method in adapter_settings.METHODS}


def answers(folder: Path, data: Path) -> np.ndarray:
    texts, _ = artifacts.texts_and_labels(data, "test")
    return load_predictor(folder).probabilities(texts)


@pytest.mark.parametrize("method", adapters.MERGED)
def test_merged_into_the_base_it_answers_as_the_adapter_does(
    trained: dict[str, tuple[Path, Path]], small_data: Path, method: str
) -> None:
    model, adapter = trained[method]
    assert artifacts.verify(model, artifacts.MODEL)["format"] == "torch"
    assert artifacts.verify(adapter, artifacts.MODEL)["format"] == "adapter"
    assert sorted(p.name for p in adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "model.json",
    ]
    assert np.abs(answers(model, small_data) - answers(adapter, small_data)).max() < 2e-6


@pytest.mark.parametrize(
    ("method", "count"),
    # Head: pooler 64*64+64, classifier 64*3+3. LoRA of rank r on a layer from m to n: r * (m + n).
    [
        ("lora", 4355 + 2 * 4 * (4 * 128 + 2 * 192)),
        ("rslora", 4355 + 2 * 4 * (4 * 128 + 2 * 192)),
        ("dora", 4355 + 2 * 4 * (4 * 128 + 2 * 192) + 2 * (5 * 64 + 128)),
        ("adalora", 4355 + 2 * 6 * (4 * 128 + 2 * 192 + 6)),
        ("prefix", 4355 + 4 * 2 * 2 * 64),
    ],
)
def test_it_trains_the_head_and_the_adapter_alone(
    trained: dict[str, tuple[Path, Path]], method: str, count: int
) -> None:
    assert artifacts.load(trained[method][0], artifacts.MODEL)["trained_parameter_count"] == count


def test_the_base_is_named_and_verified(trained: dict[str, tuple[Path, Path]], tiny_base: Path, tmp_path: Path) -> None:
    manifest = artifacts.load(trained["lora"][1], artifacts.MODEL)
    assert manifest["base_model"] == {"uri": str(tiny_base), "digest": digest(tiny_base)}
    config = json.loads((trained["lora"][1] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_base)
    moved = tmp_path / "moved"
    artifacts.copy_files(trained["lora"][1], moved, manifest["files"])
    other = manifest["base_model"] | {"digest": "0" * 64}
    artifacts.seal(moved, artifacts.MODEL, artifacts.content(manifest) | {"base_model": other})
    with pytest.raises(ConfigurationError, match="content with the pinned SHA-256"):
        load_predictor(moved)


def test_full_fine_tuning_says_that_it_has_no_adapter(trained: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(CandidateLost, match="there is no adapter"):
        load_predictor(trained["full"][1])


def test_peft_itself_reads_the_adapter(
    trained: dict[str, tuple[Path, Path]], tiny_base: Path, small_data: Path
) -> None:
    import peft
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=3)
    model = peft.PeftModel.from_pretrained(base, str(trained["dora"][1])).eval()
    ids = torch.tensor([[2, 10, 20, 30, 3]])
    ours = adapters.load_adapter(trained["dora"][1], artifacts.load(trained["dora"][1], artifacts.MODEL))
    with torch.inference_mode():
        assert torch.allclose(model(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-6)


def test_ranks_move_between_layers(trained: dict[str, tuple[Path, Path]]) -> None:
    """12 layers began with 6 ranks each; the budget of the best epoch's last step is left, unevenly.

    Of 16 steps the first has all 72 ranks and the last four have 48: 48 + 24 (1 - 6/11)³ at step 7.
    """
    best = artifacts.load(trained["adalora"][0], artifacts.MODEL)["metrics"]["best_epoch"]
    config = json.loads((trained["adalora"][1] / "adapter_config.json").read_text())
    ranks = [sum(kept) for kept in config["rank_pattern"].values()]
    assert len(ranks) == 12
    assert sum(ranks) == {1: 50, 2: 48}[best]
    assert len(set(ranks)) > 1
    weights = load_file(trained["adalora"][1] / "adapter_model.safetensors")
    assert sorted(len(v) for k, v in weights.items() if k.endswith("lora_E")) == sorted(ranks)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["as-is", "fp32", "int8"])
def test_a_prefix_is_served_on_its_base_and_exported_with_it(
    trained: dict[str, tuple[Path, Path]], small_data: Path, tmp_path: Path, precision: str
) -> None:
    compress("finetuned", trained["prefix"][0], small_data, tmp_path / "structure", seed=0)
    manifest = quantize(tmp_path / "structure", small_data, tmp_path / "servable", QuantizeConfig(precision=precision))
    assert manifest["format"] == ("adapter" if precision == "as-is" else "onnx")
    difference = np.abs(answers(trained["prefix"][0], small_data) - answers(tmp_path / "servable", small_data)).max()
    assert difference < (0.02 if precision == "int8" else 1e-5)


def test_the_prefix_changes_the_answers(trained: dict[str, tuple[Path, Path]]) -> None:
    folder = trained["prefix"][0]
    model = adapters.load_adapter(folder, artifacts.load(folder, artifacts.MODEL))
    ids = torch.tensor([[2, 10, 20, 30, 3]])
    with torch.inference_mode():
        mask = torch.ones_like(ids)
        with_prefix = model(input_ids=ids, attention_mask=mask).logits
        without = model.base_model(input_ids=ids, attention_mask=mask).logits
    assert (with_prefix - without).abs().max() > 1e-3


def test_a_prefix_needs_positions(tiny_base: Path) -> None:
    config = FinetuneConfig(method="prefix")
    model = load_base(tiny_base, ["a", "b"], seed=0, train_embeddings=False)
    with pytest.raises(ConfigurationError, match=r"virtual_tokens: got 20; allowed: at most 64 tokens .*\(60\)"):
        adapters.attach(model, config.adapter, steps=10, max_length=60)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("method", {"method": "bitfit"}),
        ("adapter_rank", {"method": "lora", "adapter_rank": 0}),
        ("adapter_alpha", {"method": "lora", "adapter_alpha": -1}),
        ("virtual_tokens", {"method": "prefix", "virtual_tokens": 0}),
        ("train_embeddings", {"method": "lora", "train_embeddings": True}),
        ("label_smoothing", {"label_smoothing": 1.0}),
        ("learning_rate", {"learning_rate": -0.1}),
    ],
)
def test_a_wrong_setting_is_refused(field: str, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: got"):
        FinetuneConfig(**settings)  # type: ignore[arg-type]


def test_each_method_has_its_own_learning_rate() -> None:
    assert FinetuneConfig().learning_rate == 3e-4
    assert FinetuneConfig(method="lora").learning_rate == adapter_settings.LEARNING_RATES["lora"]
    assert FinetuneConfig(method="lora", learning_rate=1e-4).learning_rate == 1e-4
    assert set(adapter_settings.LEARNING_RATES) == set(adapter_settings.METHODS)
    assert AdapterConfig().method == "full"


TRAIN = """
import json, sys
from pathlib import Path
from undercut.finetune.classifier import finetune
from undercut.finetune.settings import FinetuneConfig
data, output, settings = sys.argv[1:]
finetune(Path(data), Path(output), FinetuneConfig(**json.loads(settings)), Path(output + "-adapter"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "after"), [("adalora", 7), ("lora", 18)])
def test_a_killed_training_resumes_to_the_same_adapter(
    small_data: Path, tiny_base: Path, tmp_path: Path, method: str, after: int
) -> None:
    """AdaLoRA killed while it moves ranks (steps 1 to 12 of 16), LoRA in the second pass (from step 17)."""
    settings = {**SETTINGS, "base_model": str(tiny_base), "method": method, "checkpoint_seconds": 0.001}
    events = tmp_path / "events.jsonl"

    def start(output: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", TRAIN, str(small_data), str(tmp_path / output), json.dumps(settings)]
        return subprocess.Popen(command, env={**os.environ, "UNDERCUT_EVENTS": str(events)})

    assert start("whole").wait() == 0
    steps = events.read_text().count('"progress"')
    assert steps > after, steps
    events.unlink()
    victim = start("resumed")
    kill_when(victim, events, '"progress"', after)
    assert not (tmp_path / "resumed" / "model.json").exists()
    assert start("resumed").wait() == 0
    assert "resumed at step" in events.read_text()
    digests = {artifacts.verify(tmp_path / f"{n}-adapter", artifacts.MODEL)["digest"] for n in ("whole", "resumed")}
    assert len(digests) == 1
    digests = {artifacts.verify(tmp_path / n, artifacts.MODEL)["digest"] for n in ("whole", "resumed")}
    assert len(digests) == 1
