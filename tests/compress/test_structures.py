import json
from collections.abc import Callable
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.compress.structures import compress
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.quantize.export import QuantizeConfig, quantize


def test_a_structure_that_cannot_be_made_is_lost_with_its_reason(
    small_data: Path, lost_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lay in the folder before is gone; the candidate keeps its name through the later steps."""
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    teacher, output = lost_model(tmp_path / "teacher", "finetuned"), tmp_path / "model"
    output.mkdir()
    (output / "weights.safetensors").write_bytes(b"half")
    compress("linear-teacher", teacher, small_data, output, seed=0)
    manifest = artifacts.verify(output, artifacts.MODEL)
    assert manifest["lost"] == "it answers differently"
    assert (manifest["structure"], manifest["files"]) == ("linear-teacher", {})
    quantize(output, small_data, tmp_path / "servable", QuantizeConfig())
    evaluate(tmp_path / "servable", small_data, tmp_path / "evaluation", EvaluateConfig())
    card = artifacts.load(tmp_path / "evaluation", artifacts.EVALUATION)
    assert (card["candidate"], card["lost"]) == ("linear-teacher/as-is", "it answers differently")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert "lost: it answers differently" in [e.get("message") for e in events]


def test_a_refused_setting_ends_the_step_and_is_no_lost_candidate(
    small_data: Path, linear_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="structure: got 'quantum'"):
        compress("quantum", linear_model, small_data, tmp_path / "model", seed=0)
    assert not (tmp_path / "model").exists()


def test_a_tampered_teacher_is_not_asked(
    small_data: Path, make_linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = make_linear_model(tmp_path / "teacher", small_data, rows=50)
    (teacher / "weights.safetensors").write_bytes(b"other weights")
    with pytest.raises(ConfigurationError, match=r"teacher/weights\.safetensors: got 'not a safetensors file'"):
        compress("linear-teacher", teacher, small_data, tmp_path / "model", seed=0)


def test_the_label_structure_asks_no_teacher_and_carries_its_ledger_on(
    small_data: Path, make_linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = make_linear_model(tmp_path / "teacher", small_data, rows=50)
    manifest = artifacts.load(teacher, artifacts.MODEL)
    artifacts.write_json(teacher / artifacts.MODEL, manifest | {"ledger": [{"id": "finetune-1", "started": 1.0}]})
    (teacher / "weights.safetensors").unlink()
    compress("linear", teacher, small_data, tmp_path / "model", seed=0)
    made = artifacts.verify(tmp_path / "model", artifacts.MODEL)
    assert made["ledger"] == [{"id": "finetune-1", "started": 1.0}]
    assert made["base_model"] is None
    assert made["parameters"]["temperature"] > 0
