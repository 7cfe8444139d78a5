"""The Hub's client against a server that answers as the Hub does; the Hub itself is not reached here."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from undercut.errors import ConfigurationError
from undercut.storage import local_path

pytestmark = pytest.mark.slow
SHA = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = {
    "datasets/acme/tickets": {
        "train.csv": b"text,label\nhello,greet\n",
        "sub/more.csv": b"text,label\n",
        "run.py": b"1",
    },
    "acme/encoder": {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"a pickle"},
}


class Hub(BaseHTTPRequestHandler):
    """The requests that the client makes."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        if self.headers.get("Authorization") == "Bearer wrong" or "acme/private" in path:
            return self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
        if path.startswith("api/"):
            return self.describe(path.removeprefix("api/").removeprefix("models/"))
        repository, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        if revision not in ("main", "v1", SHA):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        content = REPOSITORIES[repository].get(name)
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA})
        return self.send(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA})

    def describe(self, path: str) -> None:
        name = next((name for name in REPOSITORIES if path.startswith(name)), "")
        if not name:
            return self.send(404, b"", {})
        if "/tree/" in path:
            files = REPOSITORIES[name].items()
            rows = [{"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for p, c in files]
            return self.send(200, json.dumps(rows).encode(), {})
        return self.send(200, json.dumps({"id": name.removeprefix("datasets/"), "sha": SHA}).encode(), {})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(*header)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(uri: str, endpoint: str, **environment: str) -> str:
    """Return the path, or the error, of a process of its own: the client reads its environment once."""
    code = (
        "import sys; from undercut import downloads; from undercut.storage import local_path\n"
        "downloads.ATTEMPTS, downloads.FIRST_WAIT_SECONDS = 2, 0.01\n"
        "try: print(local_path(sys.argv[1], 'source'))\n"
        "except ValueError as error: print(error)"
    )
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code, uri], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_data_sets_file(hub: str) -> None:
    path = Path(fetch("hf://datasets/acme/tickets@v1/train.csv", hub))
    assert path.read_bytes() == b"text,label\nhello,greet\n"
    assert Path(fetch("hf://datasets/acme/tickets/sub/more.csv", hub)).read_bytes() == b"text,label\n"
    again = fetch(f"hf://datasets/acme/tickets@{SHA}/train.csv", "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert Path(again).read_bytes() == path.read_bytes()


def test_a_folder_comes_without_pickles_and_code(hub: str) -> None:
    model = Path(fetch("hf://acme/encoder", hub))
    assert sorted(p.name for p in model.rglob("*.*")) == ["config.json", "model.safetensors"]
    data = Path(fetch("hf://datasets/acme/tickets", hub))
    assert sorted(p.name for p in data.rglob("*.*")) == ["more.csv", "train.csv"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/acme/tickets/none.csv", "There is no such file in the repository"),
        ("hf://datasets/acme/tickets@v9/train.csv", "There is no such branch, tag or commit"),
        ("hf://acme/private", "or it is private: check the name, or set HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_said_so(hub: str, uri: str, message: str) -> None:
    assert message in fetch(uri, hub)


def test_a_limit_and_no_network(hub: str) -> None:
    assert "at most 1e-08 GB" in fetch("hf://datasets/acme/tickets/train.csv", hub, UNDERCUT_DOWNLOAD_GB="0.00000001")
    offline = fetch("hf://datasets/acme/tickets/train.csv", hub, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids to fetch one" in offline


@pytest.mark.resilience
def test_a_hub_that_is_not_there_is_asked_for_a_minute() -> None:
    assert "a server that answers" in fetch("hf://datasets/acme/tickets/train.csv", "http://127.0.0.1:9")


@pytest.mark.parametrize("uri", ["hf://", "hf://spaces/acme/demo", "hf://datasets/acme"])
def test_an_address_of_something_else_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="source: got"):
        local_path(uri, "source")
