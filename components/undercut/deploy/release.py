"""Copy a verified model folder to where the cluster reads models: ``UNDERCUT_RELEASES/NAME/DIGEST/``.

KFP hands out ``minio://`` addresses, which KServe does not read, and keeps run artifacts for as long as it
likes; a release is an ``s3://`` folder of its own. The manifest is written last: a folder without it is not one.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from boto3.exceptions import Boto3Error, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from undercut import artifacts, events, objects
from undercut.deploy.cluster import DeploymentError
from undercut.errors import ConfigurationError, Unavailable

RELEASES = "UNDERCUT_RELEASES"
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
CHUNK = 1 << 20
Answer = TypeVar("Answer")


def releases() -> str:
    """Return the folder of all releases.

    Raises:
        ConfigurationError: the environment does not name it.
    """
    found = os.environ.get(RELEASES, "")
    if not found.startswith("s3://") or not found.removeprefix("s3://").strip("/"):
        remedy = "The ConfigMap undercut sets it in step pods"
        raise ConfigurationError(RELEASES, found, "s3://BUCKET/private/NAMESPACE/undercut/releases", remedy)
    return found.rstrip("/")


def release(folder: Path, manifest: artifacts.Manifest, name: str) -> str:
    """Copy a verified model folder, unless it is there, and read it back.

    Args:
        folder: the model folder.
        manifest: its manifest, as :func:`undercut.artifacts.verify` returned it.
        name: the registered model's name.

    Returns:
        The release's address, ``s3://…/NAME/DIGEST/``.

    Raises:
        ConfigurationError: the bucket is not there or may not be written.
        Unavailable: the object store does not answer for a minute.
        DeploymentError: what was read back is not what was sent.
    """
    uri = f"{releases()}/{name}/{manifest['digest']}/"
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    store = _Store(objects.connect(), bucket, prefix, uri)
    sent = 0
    complete = store.digest_of_manifest() == manifest["digest"]
    for relative, digest in manifest["files"].items():
        if not complete or store.file_digest(relative) != digest:
            store.put(folder / relative, relative)
            sent += 1
            if store.file_digest(relative) != digest:
                raise DeploymentError(f"{uri}{relative} is not what was sent: its SHA-256 differs")
    if not complete:
        store.put(folder / artifacts.MODEL, artifacts.MODEL)
        sent += 1
    events.message(f"release {uri}: {sent} files sent" if sent else f"release {uri}: already there, verified")
    return uri


class _Store:
    """One release's folder."""

    def __init__(self, client: Any, bucket: str, prefix: str, uri: str) -> None:
        self._client, self._bucket, self._prefix, self._uri = client, bucket, prefix, uri

    def digest_of_manifest(self) -> str:
        """Return the digest that the release's manifest says; empty if it has none yet."""
        text = self._persist(lambda: b"".join(self._chunks(artifacts.MODEL)))
        return str(json.loads(text)["digest"]) if text else ""

    def file_digest(self, relative: str) -> str:
        """Return the SHA-256 of an object's bytes, streamed; empty if there is no object."""

        def attempt() -> str:
            digest = hashlib.sha256()
            for chunk in self._chunks(relative):
                digest.update(chunk)
            return digest.hexdigest()

        return self._persist(attempt) if self._persist(lambda: self._is_there(relative)) else ""

    def put(self, path: Path, relative: str) -> None:
        """Send a file, streamed, in parts where it is large."""
        events.message(f"sending {relative} ({path.stat().st_size / 1e6:,.1f} MB)")
        key, parts = self._prefix + relative, TransferConfig(max_concurrency=4)
        self._persist(lambda: self._client.upload_file(str(path), self._bucket, key, Config=parts))

    def _is_there(self, relative: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._prefix + relative)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def _chunks(self, relative: str) -> Iterator[bytes]:
        if self._is_there(relative):
            yield from self._client.get_object(Bucket=self._bucket, Key=self._prefix + relative)["Body"].iter_chunks(
                CHUNK
            )

    def _persist(self, act: Callable[[], Answer]) -> Answer:
        """Act, again after a wait where the server is away; what the user must mend is said at once."""
        for wait in (*WAITS, None):
            try:
                return act()
            except (BotoCoreError, Boto3Error, ClientError) as error:
                if not _is_transient(error):
                    allowed = "a folder of a bucket that may be read and written"
                    raise ConfigurationError(RELEASES, self._uri, allowed, str(error)) from error
                if wait is None:
                    raise Unavailable(RELEASES, self._uri, "an object store that answers", str(error)) from error
                events.message(f"the object store does not answer, again in {wait:g} s: {error}")
                time.sleep(wait)
        raise AssertionError("the last wait is None")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        return _is_transient(error.__context__)
    if isinstance(error, ClientError):
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500)
    return isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError))
