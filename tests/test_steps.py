import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.steps import step


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    return tmp_path / "events.jsonl"


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_reports_and_records_its_ledger(tmp_path: Path, events: Path) -> None:
    for name, inputs in (("first", []), ("second", [str(tmp_path / "first")])):
        with step(name, "a", inputs=inputs, output=str(tmp_path / name)):
            (tmp_path / name).mkdir()
            artifacts.seal(tmp_path / name, artifacts.MODEL, {"n": name})
    assert [e["type"] for e in read(events)] == ["started", "finished"] * 2
    assert len({e["task"] for e in read(events)}) == 2
    ledger = artifacts.verify(tmp_path / "second", artifacts.MODEL)["ledger"]
    assert [entry["step"] for entry in ledger] == ["first", "second"]


def test_a_refused_input_is_one_line_and_exit_code_2(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, step("ingest"):
        raise ConfigurationError("source", "x.csv", "a file that exists", "Check the path")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "ingest: source: got 'x.csv'; allowed: a file that exists. Check the path.\n"
    assert read(events)[-1]["expected"] is True


def test_a_full_disk_says_what_to_do(events: Path) -> None:
    with pytest.raises(SystemExit) as stopped, step("ingest"):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert stopped.value.code == 2
    assert "no space left on the disk. Free space (undercut clean)" in read(events)[-1]["error"]


def test_a_bug_is_not_hidden(events: Path) -> None:
    with pytest.raises(ZeroDivisionError), step("ingest"):
        _ = 1 / 0
    assert read(events)[-1] | {"expected": False, "error": "ZeroDivisionError: division by zero"} == read(events)[-1]


def test_a_step_dies_with_the_run_that_started_it(tmp_path: Path) -> None:
    code = "import time; from undercut.steps import step\nwith step('x'): print('up', flush=True); time.sleep(60)"
    run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "UNDERCUT_RUN_PID": str(run.pid)}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    started = time.monotonic()
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert child.wait(timeout=10) == 1
    assert time.monotonic() - started < 10
    child.stdout.close()
