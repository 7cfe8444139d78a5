"""Several workers on one study in a real PostgreSQL."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.tune.settings import TuneConfig
from undercut.tune.studies import opened

from tests.kills import kill_when

pytestmark = pytest.mark.slow

# Heartbeats every second, so that a dead worker is found in four.
WORK = """
import json, sys
from pathlib import Path
from undercut.tune import studies
from undercut.tune.search import tune
from undercut.tune.settings import TuneConfig
studies.HEARTBEAT_SECONDS = 1
data, output, settings = sys.argv[1:]
tune(Path(data), Path(output), TuneConfig(**json.loads(settings)))
"""


def start(data: Path, folder: Path, settings: dict[str, Any], url: str) -> "subprocess.Popen[bytes]":
    """Start a worker with a workspace, an output and an event file of its own in ``folder``."""
    folder.mkdir()
    environment = {
        "UNDERCUT_HOME": str(folder / "home"),
        "UNDERCUT_EVENTS": str(folder / "events"),
        "UNDERCUT_STUDY_URL": url,
    }
    command = [sys.executable, "-c", WORK, str(data), str(folder / "out"), json.dumps(settings)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def test_two_workers_share_a_study(postgresql: str, small_data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """Both start on an empty database at once; no trial is made twice, and both end with the same answer."""
    settings = settings | {"trials": 5, "seed": 1}
    workers = [start(small_data, tmp_path / name, settings, postgresql) for name in "ab"]
    assert [worker.wait() for worker in workers] == [0, 0]
    one, other = (artifacts.verify(tmp_path / n / "out", artifacts.TUNING) for n in "ab")
    assert one["trials"] == other["trials"]
    assert one["hyperparameters"] == other["hyperparameters"]
    assert one["study"] == other["study"] == {"name": one["study"]["name"], "storage": "postgresql"}
    assert sorted(t["state"] for t in one["trials"]).count("failed") == 0
    assert len(one["trials"]) == 5
    assert len({json.dumps(t["parameters"]) for t in one["trials"]}) == 5
    assert one["trials"][0]["parameters"] == one["defaults"]
    begun = [(tmp_path / n / "events").read_text().count('"trial ') for n in "ab"]
    assert sum(begun) == 5
    assert min(begun) >= 1


def test_a_dead_workers_trial_is_tried_again_by_another(
    postgresql: str, small_data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = settings | {"trials": 2, "seed": 2}
    victim = start(small_data, tmp_path / "a", settings, postgresql)
    kill_when(victim, tmp_path / "a" / "events", "loss", 1)
    assert start(small_data, tmp_path / "b", settings, postgresql).wait() == 0
    manifest = artifacts.verify(tmp_path / "b" / "out", artifacts.TUNING)
    assert [t["state"] for t in manifest["trials"]].count("failed") == 1
    assert manifest["trials"][0]["state"] == "failed"
    again = next(t for t in manifest["trials"] if t["retry_of"] == 0)
    assert again["number"] == manifest["default_trial"]
    assert (again["state"], again["parameters"]) == ("complete", manifest["defaults"])


def test_the_address_may_be_a_parameter(postgresql: str, tmp_path: Path) -> None:
    config = TuneConfig(study_url=postgresql)
    with opened("plain", tmp_path / "study", config) as study:
        assert study.study_name == "plain"
    assert not (tmp_path / "study").exists()
