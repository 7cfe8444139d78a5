import json
from pathlib import Path
from typing import Any

import pytest
from undercut import events


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads the events emitted so far."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("UNDERCUT_EVENTS", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_part_counts_in_the_whole_and_names_its_curves(written: Any) -> None:
    events.progress(1, 4, "before")
    with events.part(2, 8, "trial-2"):
        events.progress(5, 10, "epoch 1")
        events.metric("train.loss", 0.5, at=3)
    events.metric("accuracy", 0.9)
    found = [{k: e[k] for k in ("done", "total", "message", "name", "value", "at") if k in e} for e in written()]
    assert found == [
        {"done": 1, "total": 4, "message": "before"},
        {"done": 2.5, "total": 8, "message": "trial-2: epoch 1"},
        {"name": "trial-2.train.loss", "value": 0.5, "at": 3},
        {"name": "accuracy", "value": 0.9, "at": None},
    ]


def test_a_part_ends_with_its_error(written: Any) -> None:
    with pytest.raises(ValueError, match="broken"), events.part(0, 2, "trial-0"):
        raise ValueError("broken")
    events.metric("accuracy", 0.9)
    assert written()[0]["name"] == "accuracy"


def test_nowhere_to_write_to_is_no_error() -> None:
    events.message("nobody hears")
