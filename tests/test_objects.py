import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from undercut import downloads
from undercut.errors import ConfigurationError
from undercut.storage import digest, local_path, pin

pytestmark = pytest.mark.slow
ROWS = b"text,label\n" + b"".join(b"row number %d,%d\n" % (i, i % 2) for i in range(200_000))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Weed:
    """A SeaweedFS process with an S3 gateway, which can be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self.command = [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "mini",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ]
        self.command += [f"-{name}={port}" for name, port in ports.items()]
        self.command += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]

    def start(self) -> None:
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "secret"}
        with (self.folder.parent / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    folder = tmp_path_factory.mktemp("weed") / "data"
    folder.mkdir()
    server = Weed(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    client = boto3.client("s3", region_name="us-east-1", config=config)
    for _ in range(300):
        with contextlib.suppress(BotoCoreError, ClientError):
            client.create_bucket(Bucket="data")
        with contextlib.suppress(BotoCoreError, ClientError):
            client.head_bucket(Bucket="data")
            client.put_object(Bucket="data", Key="ready", Body=b"yes")
            return client
        time.sleep(0.1)
    raise AssertionError("SeaweedFS did not start")


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
