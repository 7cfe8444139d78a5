"""Every stage that trains goes on from the store, on an empty disk, to the same weights."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from undercut import checkpoints, learning, training
from undercut.artifacts import Manifest
from undercut.encoders import load_classifier, with_layers
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.settings import PretrainConfig
from undercut.transfer.domain_adaptation import transfer
from undercut.transfer.settings import TransferConfig

from tests.seaweedfs import Weed, serving

pytestmark = pytest.mark.resilience
OFTEN = {"checkpoint_seconds": 1e-9, "batch_tokens": 256}
Stage = Callable[[Path], Manifest]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed")) as server:
        server.bucket("private")
        yield server


@pytest.fixture
def stages(small_text: Path, small_data: Path, tiny_base: Path, tiny_teacher: Path) -> dict[str, Stage]:
    size = {"sequence_length": 32, "max_steps": 20}

    def distil(output: Path) -> Manifest:
        student = with_layers(load_classifier(tiny_teacher), [1])
        config = learning.LearningConfig(epochs=2, **OFTEN)  # type: ignore[arg-type]
        result = learning.learn(student, [1], tiny_teacher, small_data, "distilled-1", config)
        return learning.write_student(student, tiny_teacher, output, "distilled-1", "", result, {})

    def adapt(output: Path) -> Manifest:
        more: dict[str, Any] = {"base_model": str(tiny_base), "comparison_rows": 100, "comparison_epochs": 1}
        return transfer(small_text, small_data, output, TransferConfig(**size, **OFTEN, **more))

    return {
        "pretrain": lambda output: pretrain(small_text, output, PretrainConfig(**size, **OFTEN)),
        "transfer": adapt,
        "distil": distil,
    }


@pytest.mark.parametrize(("stage", "at"), [("pretrain", 12), ("transfer", 12), ("transfer", 24), ("distil", 20)])
def test_it_goes_on_to_the_same_weights(
    weed: Weed, stages: dict[str, Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, at: int
) -> None:
    """Ended in step ``at`` (of transfer: of the training, of the comparison after it) and begun again elsewhere."""
    undisturbed = stages[stage](tmp_path / "whole")
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UNDERCUT_CHECKPOINTS", f"s3://private/{tmp_path.name}")
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    steps: list[int] = []

    def report(state: training.LoopState, *_: object) -> None:
        steps.append(state.step)
        if len(steps) == at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(training, "_report", report)
        patched.setenv("UNDERCUT_HOME", str(tmp_path / "first"))
        with pytest.raises(Killed):
            stages[stage](tmp_path / "cut")
    assert checkpoints.flush(30)
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "second"))
    before = len((tmp_path / "events.jsonl").read_text().splitlines())
    assert stages[stage](tmp_path / "again")["digest"] == undisturbed["digest"]
    lines = (tmp_path / "events.jsonl").read_text().splitlines()[before:]
    said = [json.loads(line).get("message", "") for line in lines]
    assert any(text.startswith("resumed at step") for text in said)
    assert "asking the teacher" not in said, "the answers were stored"
    # Lost once more, after the end: the store still has it, and nothing is left to train.
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "third"))
    assert stages[stage](tmp_path / "ended")["digest"] == undisturbed["digest"]
