"""A real S3 server for tests: SeaweedFS, which Kubeflow Pipelines ships."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Weed:
    """A SeaweedFS process with an S3 gateway, which can be killed and started again on its data."""

    def __init__(self, folder: Path, secret: str = "secret") -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "admin",
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
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
        with (self.folder.parent / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, **self.environment}, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()

    @functools.cache  # noqa: B019
    def client(self) -> Any:
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return boto3.Session(self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"]).client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config
        )

    def bucket(self, name: str) -> Any:
        """Wait for the server, make the bucket if it is not there, and return a client."""
        client = self.client()
        for _ in range(600):
            with contextlib.suppress(BotoCoreError, ClientError):
                client.create_bucket(Bucket=name)
            with contextlib.suppress(BotoCoreError, ClientError):
                client.head_bucket(Bucket=name)
                client.put_object(Bucket=name, Key="ready", Body=b"yes")
                return client
            time.sleep(0.1)
        raise AssertionError("SeaweedFS did not start")


@contextlib.contextmanager
def serving(folder: Path, secret: str = "secret") -> Iterator[Weed]:
    """Run a server on an empty folder; killed at the end, also where it was stopped."""
    (folder / "data").mkdir(parents=True)
    server = Weed(folder / "data", secret)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def keys(client: Any, bucket: str, prefix: str = "") -> list[str]:
    """Return the names of all objects under ``prefix``."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
