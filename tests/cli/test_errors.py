"""What a user can get wrong ends before any training: one message, exit code 2, no traceback."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import small_rows

ROOT = Path(__file__).parents[2]
LIFECYCLE = ["run", str(ROOT / "pipelines" / "lifecycle.py")]
Undercut = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def undercut(tmp_path: Path) -> Undercut:
    def call(*arguments: str, home: Path = tmp_path / "home") -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "UNDERCUT_HOME": str(home), "COLUMNS": "120"}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
        command = [sys.executable, "-c", "from undercut.cli.main import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    return call


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(path)


def assert_refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    message = " ".join(done.stderr.split())
    for word in words:
        assert word in message
    assert "finetune" not in done.stdout, "no training was begun"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sauce", "x"], ["sauce", "source"]),
        (["--finetune_settings.epochs", "many"], ["finetune_settings.epochs", "whole number"]),
        (["--tune_settings.trails", "3"], ["tune_settings.trails", "Did you mean trials"]),
        (["--source", "nowhere.csv"], ["source", "nowhere.csv", "exists"]),
        (["--source", "ftp://host/rows.csv"], ["source", "ftp://host/rows.csv"]),
        (["--bar.minimum", "1.2"], ["bar.minimum", "below 1"]),
        (["--bar.minimun", "0.9"], ["bar.minimun", "minimum"]),
        (["--candidates", "magic/int8"], ["candidates[0].structure", "magic"]),
        (["--hardware", "abacus"], ["prices.devices", "abacus", "cpu-core"]),
        (["--base-model", "pkg://not_installed_here/model"], ["base_model", "not_installed_here"]),
    ],
)
def test_a_wrong_setting(undercut: Undercut, tmp_path: Path, flags: list[str], words: list[str]) -> None:
    source = write(tmp_path / "rows.csv", small_rows())
    assert_refused(undercut(*LIFECYCLE, "--source", source, *flags), *words)
    assert not (tmp_path / "home").exists(), "nothing was made"


def test_a_missing_pipeline_and_recipe(undercut: Undercut) -> None:
    assert_refused(undercut("run", "lifecicle.py"), "pipeline", "lifecicle.py")
    assert_refused(undercut(*LIFECYCLE, "--recipe", "mine.yaml"), "recipe", "mine.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["source", "empty"]),
        ("text,label\n" + "".join(f"row {i},same\n" for i in range(50)), ["source", "two labels", "same"]),
        ("words,kind\nhello,a\n", ["text_column", "words, kind"]),
    ],
    ids=["empty file", "one class", "no such column"],
)
def test_a_wrong_input(undercut: Undercut, tmp_path: Path, content: str, words: list[str]) -> None:
    (tmp_path / "rows.csv").write_text(content)
    assert_refused(undercut(*LIFECYCLE, "--source", "rows.csv"), *words)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_no_space_left(undercut: Undercut, tmp_path: Path, small_disk: Path) -> None:
    source = write(tmp_path / "rows.csv", small_rows() + [(f"row {i} {'x' * 200}", "cancel") for i in range(2000)])
    done = undercut(*LIFECYCLE, "--source", source, home=small_disk / "home")
    assert_refused(done, "no space left", "undercut clean")
