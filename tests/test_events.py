import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from undercut import events


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    return tmp_path / "events.jsonl"


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_kind_has_its_keys_and_the_task_that_it_is_of(file: Path) -> None:
    events.begin("finetune-1", "finetune", "linear")
    events.progress(3, 10, "rows")
    events.metric("accuracy", 0.9)
    events.metric("loss", 0.5, at=7)
    events.parameters({"epochs": 3, "folder": Path("/a")})
    events.message("où est ma commande?")
    found = read(file)
    task = {"task": "finetune-1", "step": "finetune", "detail": "linear"}
    assert all(event.items() >= task.items() and event["time"] > 1e9 for event in found)
    assert [event["type"] for event in found] == ["progress", "metric", "metric", "parameters", "message"]
    assert (found[0]["done"], found[0]["total"], found[0]["message"]) == (3, 10, "rows")
    assert [(e["name"], e["value"], e["at"]) for e in found[1:3]] == [("accuracy", 0.9, None), ("loss", 0.5, 7)]
    assert found[3]["parameters"] == {"epochs": 3, "folder": "/a"}
    assert found[4]["message"] == "où est ma commande?"


def test_without_a_file_events_go_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events.message("nobody listens")
    assert list(tmp_path.iterdir()) == []


def test_a_line_break_does_not_break_the_line(file: Path) -> None:
    events.message("one\ntwo\u2028three")
    assert [json.loads(line)["message"] for line in file.read_bytes().splitlines()] == ["one\ntwo\u2028three"]


def test_a_file_name_that_is_not_utf_8_can_be_reported(file: Path) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    events.message(f"{name} is no table")
    assert read(file)[0]["message"] == "caf\udce9.csv is no table"


def test_steps_that_write_at_once_do_not_mix(file: Path) -> None:
    code = "from undercut import events\nfor i in range(300): events.message(f'{WHO}-{i}' + 'x' * 3000)"
    writers = [subprocess.Popen([sys.executable, "-c", f"WHO = {who}\n{code}"]) for who in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = [event["message"].rstrip("x") for event in read(file)]
    assert sorted(found) == sorted(f"{who}-{i}" for who in range(3) for i in range(300))
    for who in range(3):
        assert [m for m in found if m.startswith(f"{who}-")] == [f"{who}-{i}" for i in range(300)]
