import shutil
from pathlib import Path

import pytest
from undercut import workspace


def test_home_is_absolute_and_as_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert workspace.home() == tmp_path / "home"
    monkeypatch.setenv("UNDERCUT_HOME", "elsewhere")
    assert workspace.home() == tmp_path / "elsewhere"
    monkeypatch.delenv("UNDERCUT_HOME")
    assert workspace.home() == tmp_path / ".undercut"
    assert list(tmp_path.iterdir()) == []


def test_mlflow_is_in_the_workspace_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert workspace.tracking_uri() == f"sqlite:///{tmp_path}/home/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert workspace.tracking_uri() == "http://mlflow:5000"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package beside its pinned versions, which :func:`digest` reads."""
    copy = tmp_path / "components" / "undercut"
    shutil.copytree(workspace.PACKAGE, copy)
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    monkeypatch.setattr(workspace, "PACKAGE", copy)
    return copy


def digest() -> str:
    return workspace.code_digest.__wrapped__()


@pytest.mark.parametrize("change", ["code", "new file", "data file", "versions"])
def test_any_change_of_the_code_changes_its_digest(package: Path, change: str) -> None:
    before = digest()
    assert len(before) == 64
    target = {
        "code": package / "evaluate" / "measure.py",
        "new file": package / "compress" / "pruned.py",
        "data file": package / "page.html",
        "versions": package.parents[1] / "constraints.txt",
    }[change]
    with target.open("a") as stream:
        stream.write("# changed\n")
    assert digest() != before


def test_what_python_compiles_does_not_change_the_digest(package: Path) -> None:
    before = digest()
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "bar.cpython-311.pyc").write_bytes(b"compiled")
    assert digest() == before


def test_an_installed_package_without_pinned_versions_has_a_digest(package: Path) -> None:
    before = digest()
    (package.parents[1] / "constraints.txt").unlink()
    assert digest() != before
