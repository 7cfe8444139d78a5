import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from undercut import downloads
from undercut.errors import ConfigurationError
from undercut.storage import local_path, pin

CONTENT = bytes(i * i % 251 for i in range(3_000_000))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A web server whose faults a test sets."""

    url: str = ""
    content: bytes = CONTENT
    version: str = '"v1"'
    last_modified: str = ""
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirect: str = ""
    login: str = ""
    encoding: str = ""
    ranges: bool = True
    length: bool = True
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.001)
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            state.seen.append(dict(self.headers))
            if state.statuses:
                return self.answer(state.statuses.pop(0))
            if state.login and self.headers.get("Authorization") != state.login:
                return self.answer(401)
            if state.redirect:
                return self.answer(302, Location=state.redirect)
            known = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
            if known and known in (state.version, state.last_modified):
                return self.answer(304)
            start = 0
            if state.ranges and self.headers.get("If-Range") == state.version:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            headers = {"ETag": state.version, "Last-Modified": state.last_modified, "Content-Encoding": state.encoding}
            if state.length:
                headers["Content-Length"] = str(len(state.content) - start)
            self.answer(206 if start else 200, **{k: v for k, v in headers.items() if v})
            body = state.content[start:]
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def answer(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_again_when_it_changes(site: Site) -> None:
    uri = f"{site.url}/data/my%20rows.csv?part=1"
    path = local_path(uri, "source")
    assert (path.name, path.read_bytes()) == ("my_rows.csv", CONTENT)
    assert sorted(p.name for p in path.parent.iterdir()) == ["download.json", "lock", "my_rows.csv"]
    assert json.loads((path.parent / "download.json").read_text()) == {"uri": uri, "version": '"v1"'}
    assert local_path(uri, "source") == path
    assert site.seen[1]["If-None-Match"] == '"v1"'
    site.content, site.version = b"text,label\n", '"v2"'
    assert local_path(uri, "source").read_bytes() == b"text,label\n"
    assert len(site.seen) == 3


def test_a_last_modified_date_serves_where_there_is_no_strong_etag(site: Site) -> None:
    site.version, site.last_modified = 'W/"v1"', "Wed, 21 Oct 2026 07:28:00 GMT"
    local_path(f"{site.url}/a.csv", "source")
    local_path(f"{site.url}/a.csv", "source")
    assert site.seen[1]["If-Modified-Since"] == site.last_modified


def test_a_cut_connection_is_resumed_where_it_stopped(site: Site) -> None:
    site.cut_after = [1_200_000, 700_000]
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT
    starts = [int(seen.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")) for seen in site.seen]
    assert starts[0] == 0
    assert 0 < starts[1] <= 1_200_000
    assert starts[1] < starts[2] <= 1_900_000


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(site: Site) -> None:
    site.cut_after, site.statuses = [1_500_000], []
    site.content = b"x" * 2_000_000
    first, site.ranges = site.url + "/a.csv", False  # the server ignores the range, as after a change
    path = local_path(first, "source")
    assert path.read_bytes() == b"x" * 2_000_000
    assert "If-Range" in site.seen[1]


def test_an_unfinished_copy_outlives_the_process_and_is_no_copy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    site.cut_after = [2_000_000]
    with pytest.raises(ConfigurationError, match=r"source: .*a server that answers.*The last of 1 attempts"):
        local_path(f"{site.url}/a.csv", "source")
    folder = downloads.folder(f"{site.url}/a.csv")
    assert sorted(p.name for p in folder.iterdir()) == ["a.csv.partial", "lock", "partial.json"]
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT
    assert site.seen[1]["Range"].startswith("bytes=")


def test_without_a_length_the_end_is_the_end(site: Site) -> None:
    site.length, site.version = False, ""
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT


def test_busy_servers_are_asked_again_and_refusals_are_not(site: Site) -> None:
    site.statuses = [503, 429, 500]
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT
    assert len(site.seen) == 4
    site.statuses = [404]
    with pytest.raises(ConfigurationError, match=r"it says 404\)\. Nothing is there"):
        local_path(f"{site.url}/b.csv", "source")
    assert len(site.seen) == 5


def test_a_pin_is_checked_and_saves_the_request(site: Site) -> None:
    pinned = pin(f"{site.url}/a.csv")
    assert pinned == f"{site.url}/a.csv#sha256={DIGEST}"
    assert local_path(pinned, "source").read_bytes() == CONTENT
    assert len(site.seen) == 1
    with pytest.raises(ConfigurationError, match=f"the pinned SHA-256.*Its SHA-256 is {DIGEST}"):
        local_path(f"{site.url}/a.csv#sha256={'0' * 64}", "source")


def test_a_damaged_copy_of_pinned_content_is_fetched_again(site: Site) -> None:
    pinned = pin(f"{site.url}/a.csv")
    local_path(pinned, "source").write_bytes(b"damaged")
    assert local_path(pinned, "source").read_bytes() == CONTENT


def test_the_size_limit_holds_with_and_without_a_length(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_DOWNLOAD_GB", "0.002")
    for site.length in (True, False):
        with pytest.raises(ConfigurationError, match=r"at most 0\.002 GB .*UNDERCUT_DOWNLOAD_GB"):
            local_path(f"{site.url}/a.csv", "source")
    assert len(site.seen) == 2
    monkeypatch.setenv("UNDERCUT_DOWNLOAD_GB", "much")
    with pytest.raises(ConfigurationError, match="UNDERCUT_DOWNLOAD_GB: got 'much'"):
        local_path(f"{site.url}/a.csv", "source")


def test_plain_http_to_another_machine_is_refused_unless_pinned(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed: https://\. Use https, or pin"):
        local_path("http://data.example/a.csv", "source")
    site.redirect = "http://data.example/a.csv"
    with pytest.raises(ConfigurationError, match=r"which leads to http://data\.example/a\.csv"):
        local_path(f"{site.url}/a.csv", "source")
    site.redirect = "/again"
    with pytest.raises(ConfigurationError, match="at most 10 redirects"):
        local_path(f"{site.url}/a.csv", "source")
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    with pytest.raises(ConfigurationError, match="a server that answers"):  # pinned: it is asked, but is not there
        local_path(f"http://nowhere.invalid/a.csv#sha256={DIGEST}", "source")


def test_attempts_are_counted_from_the_last_progress(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    site.cut_after = [200_000] * 12
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT
    assert len(site.seen) == 13


@pytest.mark.parametrize(
    "uri",
    [
        "https://ann:hunter2@h.example/a",
        "https://h.example/a?X-Amz-Signature=hunter2",
        "https://h.example/?token=hunter2",
    ],
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="without login, token or signature") as caught:
        local_path(uri, "source")
    assert "hunter2" not in str(caught.value)


def test_the_login_comes_from_netrc(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.login = "Basic YW5uOmh1bnRlcjI="
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigurationError, match=r"it says 401\)\. Put the host's login into ~/\.netrc"):
        local_path(f"{site.url}/a.csv", "source")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password hunter2\n")
    assert local_path(f"{site.url}/a.csv", "source").read_bytes() == CONTENT


def test_a_body_in_another_encoding_is_refused(site: Site) -> None:
    site.encoding = "br"
    with pytest.raises(ConfigurationError, match=r"a file sent as it is \(not br\)"):
        local_path(f"{site.url}/a.csv", "source")
