import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from undercut import downloads
from undercut.errors import ConfigurationError
from undercut.storage import digest, local_path, pin

from tests.seaweedfs import Weed, serving

pytestmark = pytest.mark.slow
ROWS = b"text,label\n" + b"".join(b"row number %d,%d\n" % (i, i % 2) for i in range(200_000))


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def bucket(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    return weed.bucket("data")


def test_an_object_is_fetched_once_and_again_when_it_changes(bucket: Any) -> None:
    bucket.put_object(Bucket="data", Key="in/rows.csv", Body=ROWS)
    path = local_path("s3://data/in/rows.csv", "source")
    assert (path.name, path.read_bytes()) == ("rows.csv", ROWS)
    before = path.stat()
    assert local_path("s3://data/in/rows.csv", "source").stat().st_ino == before.st_ino
    pinned = pin("s3://data/in/rows.csv")
    bucket.put_object(Bucket="data", Key="in/rows.csv", Body=b"text,label\n")
    assert local_path(pinned, "source").read_bytes() == ROWS
    assert local_path("s3://data/in/rows.csv", "source").read_bytes() == b"text,label\n"
    with pytest.raises(ConfigurationError, match="the pinned SHA-256"):
        local_path(pinned, "source")


def test_a_prefix_is_a_folder(bucket: Any) -> None:
    for name in ("model/config.json", "model/sub/weights.txt", "model/old.txt", "model2/other.txt"):
        bucket.put_object(Bucket="data", Key=name, Body=name.encode())
    folder = local_path("s3://data/model/", "base_model")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == [
        "config.json",
        "old.txt",
        "sub/weights.txt",
    ]
    first, node = digest(folder), folder.stat().st_ino
    assert local_path(pin("s3://data/model/"), "base_model").stat().st_ino == node
    bucket.delete_object(Bucket="data", Key="model/old.txt")
    assert not (local_path("s3://data/model/", "base_model") / "old.txt").exists()
    assert digest(folder) != first


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://data/none.csv", "There is no such object"),
        ("s3://no-such-bucket/none.csv", "There is no such"),
        ("s3://data/none/", "Nothing is under this prefix"),
        ("s3://data", "s3://bucket/key"),
        ("s3://AKIA:hunter2@data/a.csv", "Put credentials into AWS_ACCESS_KEY_ID"),
        ("s3://Not a bucket/a.csv", "Invalid bucket name"),
    ],
)
def test_what_is_not_there_is_refused(bucket: Any, uri: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        local_path(uri, "source")
    assert "hunter2" not in str(caught.value)


def test_wrong_and_missing_credentials_are_said_so(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigurationError, match=r"check AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY does not"):
        local_path("s3://data/ready", "source")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        local_path("s3://data/ready", "source")


FETCH = "import sys; from undercut.storage import local_path; {} print(local_path(sys.argv[1], 'source'))"


def test_a_server_killed_in_the_middle_is_waited_for_and_the_download_resumed(
    bucket: Any, weed: Weed, tmp_path: Path
) -> None:
    """64 MB, read slowly enough that the kill falls into it; then the server comes back on its data."""
    content = os.urandom(1 << 20) * 64
    bucket.put_object(Bucket="data", Key="big.bin", Body=content)
    slow = (
        "import time; from undercut import objects; chunks = objects._chunks;"
        "objects._chunks = lambda *a: (time.sleep(0.005) or c for c in chunks(*a));"
    )
    events = tmp_path / "events.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH.format(slow), "s3://data/big.bin"],
        stdout=subprocess.PIPE,
        env={**os.environ, "UNDERCUT_EVENTS": str(events)},
    )
    partial = downloads.folder("s3://data/big.bin") / "big.bin.partial"
    while not (partial.exists() and partial.stat().st_size > 1 << 22):
        assert process.poll() is None
        time.sleep(0.01)
    weed.kill()
    time.sleep(1)
    weed.start()
    output, _ = process.communicate(timeout=120)
    assert Path(output.decode().strip()).read_bytes() == content
    assert "attempt 1 of 8 failed" in events.read_text()


def test_memory_does_not_grow_with_the_object(bucket: Any) -> None:
    peaks = {}
    for megabytes in (1, 192):
        bucket.put_object(Bucket="data", Key=f"{megabytes}.bin", Body=bytes(megabytes << 20))
        code = FETCH.format("") + "; print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        command = [sys.executable, "-c", code, f"s3://data/{megabytes}.bin"]
        peaks[megabytes] = int(subprocess.run(command, check=True, capture_output=True).stdout.split()[-1])
    assert peaks[192] - peaks[1] < 16 << 10  # kilobytes
