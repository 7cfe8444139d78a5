"""The notebooks run from the first cell to the last, and show what was committed with them."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAND_IN = ROOT / "tests" / "cluster" / "fake_kfp.py"
LARGEST_BYTES = 60_000


@pytest.fixture(scope="module")
def execution() -> Any:
    pytest.importorskip("nbclient", reason="nbclient and ipykernel are not installed (extra dev)")
    specification = importlib.util.spec_from_file_location("execution", ROOT / "notebooks" / "execute.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster of the person's, and nothing written beside the notebooks."""
    for name in os.environ:
        if name.startswith(("KF_PIPELINES_", "UNDERCUT_KFP_", "KUBE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNDERCUT_KFP_POLL_SECONDS", "0.2")  # the stand-in goes one task further at each question
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


def kinds(book: Any) -> list[list[str]]:
    """Return the kinds of what each code cell shows."""
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return [sorted(output.output_type for output in cell.outputs) for cell in cells]


def run(execution: Any, name: str) -> Any:
    """Execute a notebook where it stands and hold what it shows against what was committed."""
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(name)]
    committed = execution.nbformat.read(path, as_version=4)
    executed = execution.execute(path)
    assert kinds(executed) == kinds(committed)
    return executed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_small_and_of_no_machine(execution: Any, path: Path) -> None:
    book = execution.nbformat.read(path, as_version=4)
    execution.nbformat.validate(book)
    assert path.stat().st_size < LARGEST_BYTES
    assert any(kinds(book))
    text = execution.shown(book)
    assert [line for line in text.splitlines() if execution.ABSOLUTE_PATH.search(line)] == []
    assert not any(output.output_type == "error" for cell in book.cells for output in cell.get("outputs", []))


def test_a_path_of_a_machine_is_recognised(execution: Any) -> None:
    for text in ("see /home/me/x", "uri='/tmp/x'", "/work/y", "a\n/root/z", "sqlite:////var/x"):
        assert execution.ABSOLUTE_PATH.search(text), text
    for text in ("s3://bucket/tmp/x", "http://127.0.0.1:80/home/x", "pipelines/data/x.csv", "and/or"):
        assert not execution.ABSOLUTE_PATH.search(text), text


@pytest.mark.resilience
def test_the_lifecycle_runs_and_its_results_are_read(execution: Any) -> None:
    """Minutes: it fine-tunes the recipe's own base model."""
    text = execution.shown(run(execution, "01"))
    assert "linear/as-is: accuracy 0.517" in text
    assert "<svg" in text


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if not STAND_IN.is_file():
        pytest.skip(f"no stand-in of KFP's API at {STAND_IN.relative_to(ROOT)}")
    with subprocess.Popen([sys.executable, str(STAND_IN), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", url)
        yield url
        process.kill()


@pytest.mark.slow
def test_a_run_is_submitted_and_a_schedule_kept(execution: Any, endpoint: str) -> None:
    text = execution.shown(run(execution, "02"))
    assert f"{endpoint}/#/runs/details/" in text
    assert "run succeeded" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("nightly: ")][:3] == [
        "created.",
        "unchanged.",
        "changed.",
    ]
    assert "No schedules." in text


@pytest.mark.slow
def test_one_component_is_tried_alone(execution: Any) -> None:
    text = execution.shown(run(execution, "03"))
    assert "21 labels, rows {'train': 1069, 'validation': 147, 'test': 294}, digest 89c4d650d527" in text
    assert "max_characters 60: 345 rows, too long" in text
    assert "exit code 2" in text
