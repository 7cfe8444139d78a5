"""Folders and small files to an S3 store, for pods that train what another pod hands on.

A store that does not answer is asked again for a minute: what hangs on it here is the outcome of a whole training.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig

from undercut import artifacts, events
from undercut.downloads import persist
from undercut.objects import connect, explained

_FIELD = "object store"


def is_remote(uri: str) -> bool:
    """Tell whether a URI names an S3 object or folder."""
    return uri.startswith("s3://")


def s3_uri(uri: str) -> str:
    """Return KFP's URI of an artifact as an S3 one: it calls the store that it was installed with ``minio``."""
    return "s3://" + uri.removeprefix("minio://") if uri.startswith("minio://") else uri


def split(uri: str) -> tuple[str, str]:
    """Return an S3 URI's bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def upload(folder: Path, uri: str) -> None:
    """Put an artifact's files under a prefix, its manifest last: a prefix with a manifest is a complete artifact.

    Raises:
        ConfigurationError: the store refuses them, or does not answer.
    """
    manifest = artifacts.manifest_name(folder)
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.name == manifest, p))
    for done, path in enumerate(files, 1):
        name = path.relative_to(folder).as_posix()
        _persist(f"{uri.rstrip('/')}/{name}", functools.partial(_put, path))
        events.progress(done, len(files), f"uploaded {name}")


def _put(path: Path, client: Any, place: dict[str, str]) -> None:
    with path.open("rb") as stream:
        client.upload_fileobj(stream, *place.values(), Config=TransferConfig(max_concurrency=4))


def write(uri: str, data: bytes) -> None:
    """Write one small object.

    Raises:
        ConfigurationError: the store refuses it, or does not answer.
    """
    _persist(uri, lambda client, place: client.put_object(**place, Body=data))


def read(uri: str) -> bytes | None:
    """Return one small object, or None if there is none.

    Raises:
        ConfigurationError: the store refuses to be read, or does not answer.
    """
    found: list[bytes] = []

    def get(client: Any, place: dict[str, str]) -> None:
        try:
            found[:] = [client.get_object(**place)["Body"].read()]
        except client.exceptions.NoSuchKey:
            found.clear()

    _persist(uri, get)
    return found[0] if found else None


def _persist(uri: str, request: Callable[[Any, dict[str, str]], object]) -> None:
    bucket, key = split(uri)
    client = connect()

    def attempt() -> None:
        with explained(uri, _FIELD):
            request(client, {"Bucket": bucket, "Key": key})

    persist(attempt, uri, _FIELD)
