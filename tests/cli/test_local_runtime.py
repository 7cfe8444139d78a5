"""KFP's local runner as Undercut sets it up, on a pipeline of two small steps."""

import builtins
import logging
import sys
from pathlib import Path

import pytest
from kfp import dsl
from undercut.cli.local_runtime import local_runner, own_output


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def shout(text: str, loud: dsl.Output[dsl.Artifact]) -> str:
    """Write the text in capitals."""
    print("a line of the step")
    with open(loud.path, "w") as stream:
        stream.write(text.upper())
    return text


@dsl.pipeline(name="shouting")
def shouting(text: str) -> str:
    """Shout."""
    return shout(text=text).outputs["Output"]


def run(folder: Path, text: str) -> tuple[str, list[tuple[str, str]]]:
    folder.mkdir(exist_ok=True)
    hits: list[tuple[str, str]] = []
    with local_runner(
        folder / "artifacts", folder / "cache", folder / "log", lambda step, detail, _: hits.append((step, detail))
    ):
        task = shouting(text=text)
    return task.output, hits


def test_the_second_run_comes_from_the_cache_and_says_so(tmp_path: Path) -> None:
    assert run(tmp_path, "hello") == ("hello", [])
    assert run(tmp_path, "hello") == ("hello", [("shout", "")])
    assert run(tmp_path, "other") == ("other", [])


def test_what_kfp_prints_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = builtins.print, logging.getLogger().level, logging.getLogger().handlers[:]
    run(tmp_path, "hello")
    assert (builtins.print, logging.getLogger().level, logging.getLogger().handlers) == before
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
    assert "a line of the step" in (tmp_path / "log").read_text()


def test_an_argument_that_says_python3_reaches_the_step(tmp_path: Path) -> None:
    assert run(tmp_path / "python3-folder", "use python3 here")[0] == "use python3 here"
    (written,) = (tmp_path / "python3-folder").rglob("shout/loud")
    assert written.read_text() == "USE PYTHON3 HERE"
    assert sys.executable not in written.read_text()


def test_without_a_ledger_the_first_output_counts(tmp_path: Path) -> None:
    assert own_output("shout", {"a": str(tmp_path), "b": "x"}) == str(tmp_path)
    assert own_output("shout", {}) == ""
