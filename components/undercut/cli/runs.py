"""Run folders: ``.undercut/runs/<id>`` with artifacts, events, log, report and ``run.json``."""

import datetime
import json
from pathlib import Path
from typing import Any

from undercut import artifacts, processes, workspace
from undercut.errors import ConfigurationError

RECORD = "run.json"


def create(name: str) -> Path:
    """Make and return a new run's folder, named by local time and pipeline.

    Raises:
        ConfigurationError: the workspace cannot be written.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = workspace.home() / "runs" / (f"{stamp}-{name}" if number == 1 else f"{stamp}-{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            remedy = f"{error.strerror}: free space (undercut clean), or set UNDERCUT_HOME to a folder you may write to"
            home = str(workspace.home())
            raise ConfigurationError("UNDERCUT_HOME", home, "a folder that can be written", remedy) from error
        return folder
    raise AssertionError(f"a thousand runs of {name} within the second {stamp}")


def all_runs() -> list[Path]:
    """Return the folders of all recorded runs, the newest first."""
    folders = (workspace.home() / "runs").glob(f"*/{RECORD}")
    return sorted((p.parent for p in folders), key=lambda p: read(p)["started"], reverse=True)


def find(run: str) -> Path:
    """Return the folder of a run by its id; the newest that ended with a choice or a miss if ``run`` is empty.

    Raises:
        ConfigurationError: there is none.
    """
    known = all_runs()
    if not run:
        known = [p for p in known if read(p)["status"] in ("passed", "missed", "finished")]
    found = [p for p in known if not run or p.name == run]
    if not found:
        allowed = ", ".join(p.name for p in known[:5]) or "a run that has ended"
        raise ConfigurationError("run", run, allowed, "Run a pipeline first: make demo")
    return found[0]


def read(folder: Path) -> dict[str, Any]:
    """Return a run's record; one that says it runs, but whose process is gone, was killed."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if record["status"] == "running" and "process" in record and not processes.alive(record["process"]):
        record["status"] = "killed"
    return record


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write a run's record."""
    artifacts.write_json(folder / RECORD, record)
