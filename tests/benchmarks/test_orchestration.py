"""What KFP's local runner adds to a step that does nothing."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

PIPELINE = """
import sys
from kfp import dsl, local
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def nothing(n: int) -> int:
    return n

@dsl.pipeline
def chain():
    task = nothing(n=1)
    for _ in range(int(sys.argv[2]) - 1):
        task = nothing(n=task.output)
import time
started = time.perf_counter()
chain()
print("SECONDS", time.perf_counter() - started)
"""


def seconds(steps: int, root: Path) -> float:
    root.mkdir()
    (root / "chain.py").write_text(PIPELINE)
    command = [sys.executable, str(root / "chain.py"), str(root / "artifacts"), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("SECONDS ")[1].split()[0])


def test_step_overhead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = 2, 12
    differences = [
        (seconds(long, tmp_path / f"l{i}") - seconds(short, tmp_path / f"s{i}")) / (long - short) for i in range(3)
    ]
    bare = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - started)
    with capsys.disabled():
        step, process = statistics.median(differences), statistics.median(bare)
        print("\nKFP's SubprocessRunner (use_venv=False), a step that does nothing, median of 3")
        print(f"{step:.2f} s a step; a bare Python process takes {process:.2f} s: {step / process:.0f}x")
