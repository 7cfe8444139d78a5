"""Checkpoints in S3, where a pod with an empty disk finds them: ``UNDERCUT_CHECKPOINTS=s3://bucket/prefix``.

Under the prefix lies, for each folder of a training, by the digest of what decides its outcome::

    <key>/choose/step-00000120/tensors-<start of the digest>.safetensors
    <key>/choose/step-00000120/state.json
    <key>/chosen.json

``state.json`` is written last and names the tensors' SHA-256: a checkpoint is complete or absent, and what
was altered is passed over. The tensors' name holds their digest, so that two pods which train the same for
a while (a node that was cut off and comes back) never mix their files. Uploads go through
:mod:`undercut.uploads`, beside the training.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from boto3.s3.transfer import TransferConfig

from undercut import events, objects
from undercut.downloads import Interrupted
from undercut.errors import ConfigurationError, Unavailable
from undercut.uploads import Upload, Uploads

VARIABLE = "UNDERCUT_CHECKPOINTS"
KEPT = 2
STATE, TENSORS = "state.json", "tensors.safetensors"
# How long a training that starts waits for a store that does not answer, and the longest wait between attempts.
PATIENCE_SECONDS, LONGEST_WAIT_SECONDS = 600.0, 10.0
_CONNECT_SECONDS, _READ_SECONDS, _CHUNK = 5, 30, 1 << 20
# In the calling thread: threads of a pool would hold up the end of a process whose store does not answer.
_TRANSFER = TransferConfig(use_threads=False)

Found = TypeVar("Found")


@functools.cache
def opened(uri: str) -> "Store":
    """Return the process's one store at ``uri``.

    Raises:
        ConfigurationError: it is no ``s3://bucket/prefix``, or holds credentials.
    """
    return Store(uri)


class Store:
    """A bucket's prefix; ``uploads`` is the queue of what goes there."""

    def __init__(self, uri: str) -> None:
        self.bucket, self.prefix = split(uri)
        self.uri = uri.rstrip("/")
        self.client = objects.connect(_CONNECT_SECONDS, _READ_SECONDS, attempts=1)
        self.uploads = Uploads(self.uri)

    def send_checkpoint(self, name: str, folder: Path, sha256: str, taken: float) -> None:
        """Queue a checkpoint's folder; one of the same training that still waits is replaced.

        Args:
            name: the training's folder under the prefix.
            folder: ``step-…``; its files may be removed at once, they are open already.
            sha256: of the tensors.
            taken: ``time.monotonic()`` when the state was taken.
        """
        state, tensors = (folder / STATE).read_text(), (folder / TENSORS).open("rb")

        def run(upload: Upload) -> None:
            self._put(f"{name}/{folder.name}/{_tensors(sha256)}", tensors, sha256, upload)
            self._put(f"{name}/{folder.name}/{STATE}", io.BytesIO(state.encode()), "", upload)
            self._prune(name)

        self.uploads.add(Upload(name=name, run=run, close=tensors.close, taken=taken))

    def send_file(self, name: str, path: Path, sha256: str) -> None:
        """Queue a file that a resumed training needs beside its checkpoints."""
        stream = path.open("rb")
        self.uploads.add(Upload(name=name, run=lambda u: self._put(name, stream, sha256, u), close=stream.close))

    def remove(self, name: str, seconds: float) -> None:
        """Remove what lies under ``name``, and wait for it ``seconds`` at most."""
        self.uploads.discard(name)
        self.uploads.add(Upload(name=name, run=lambda _: self._delete(self._keys(name)), close=lambda: None))
        if not self.uploads.flush(seconds):
            events.message(f"the checkpoints of an ended training stay in {self.uri}/{name}: they are not needed")

    def checkpoints(self, name: str, folder: Path) -> Iterator[Path]:
        """Fetch the checkpoints under ``name`` into ``folder``, newest first, each when it is asked for.

        Raises:
            ConfigurationError: the store refuses to be read, or did not answer for ``PATIENCE_SECONDS``.
        """
        keys = self._patiently(lambda: self._keys(name))
        try:
            self._patiently(lambda: self._abandon(name))
        except ConfigurationError as error:  # it takes a permission that nothing else here needs
            events.message(f"uploads that a killed process left unfinished stay: {error}")
        for step in _complete(keys, self._key(name)):
            path = self._patiently(functools.partial(self._fetch_checkpoint, name, step, folder))
            if path is not None:
                yield path

    def fetch_file(self, name: str, path: Path) -> bool:
        """Fetch what :meth:`send_file` stored; False if there is none, or it was altered."""
        return self._patiently(lambda: self._fetch(name, path))

    def _fetch_checkpoint(self, name: str, step: str, folder: Path) -> Path | None:
        partial, target = folder / f"{step}.partial", folder / step
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if not self._fetch(f"{name}/{step}/{STATE}", partial / STATE):
            return None
        try:
            sha256 = str(json.loads((partial / STATE).read_text())["sha256"])
        except (ValueError, KeyError) as error:
            events.message(f"checkpoint {step} in {self.uri} is damaged and passed over: {error!r}")
            return None
        if not self._fetch(f"{name}/{step}/{_tensors(sha256)}", partial / TENSORS):
            return None
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        return target

    def _fetch(self, name: str, path: Path) -> bool:
        key, digest = self._key(name), hashlib.sha256()
        partial = path.with_name(path.name + ".partial")
        with objects.explained(f"s3://{self.bucket}/{key}", VARIABLE):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
            except self.client.exceptions.NoSuchKey:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(answer["Body"]) as body, partial.open("wb") as stream:
                for chunk in body.iter_chunks(_CHUNK):
                    digest.update(chunk)
                    stream.write(chunk)
        recorded = answer["Metadata"].get("sha256", "")
        if recorded and recorded != digest.hexdigest():
            found = f"SHA-256 {digest.hexdigest()[:12]}, recorded is {recorded[:12]}"
            events.message(f"{name} in {self.uri} is damaged and passed over: {found}")
            return False
        partial.replace(path)
        return True

    def _put(self, name: str, stream: Any, sha256: str, upload: Upload) -> None:
        """Write one object, whole or not at all; ``stream`` stays open for another attempt."""
        stream.seek(0)
        # boto3 closes what it reads from, and the next attempt needs it.
        copy = stream if isinstance(stream, io.BytesIO) else os.fdopen(os.dup(stream.fileno()), "rb")
        metadata = {"Metadata": {"sha256": sha256}} if sha256 else {}
        key = self._key(name)
        with objects.explained(f"s3://{self.bucket}/{key}", VARIABLE), copy:
            self.client.upload_fileobj(
                copy, self.bucket, key, ExtraArgs=metadata, Callback=upload.check, Config=_TRANSFER
            )

    def _prune(self, name: str) -> None:
        keys, place = self._keys(name), self._key(name)
        kept = _complete(keys, place)[:KEPT]
        self._delete([k for k in keys if k.removeprefix(place + "/").partition("/")[0] not in kept])

    def _keys(self, name: str) -> list[str]:
        with objects.explained(f"{self.uri}/{name}", VARIABLE):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._key(name) + "/"
            )
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def _delete(self, keys: list[str]) -> None:
        """Delete objects, states first: what remains of a deletion cut short is no checkpoint."""
        for key in sorted(keys, key=lambda k: not k.endswith(STATE)):
            with objects.explained(f"s3://{self.bucket}/{key}", VARIABLE):
                self.client.delete_object(Bucket=self.bucket, Key=key)

    def _abandon(self, name: str) -> None:
        """Give up the uploads in parts that a killed process left unfinished."""
        with objects.explained(f"{self.uri}/{name}", VARIABLE):
            found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._key(name) + "/")
            for left in found.get("Uploads", []):
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=left["Key"], UploadId=left["UploadId"])

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _patiently(self, attempt: Callable[[], Found]) -> Found:
        started, wait = time.monotonic(), 0.5
        while True:
            try:
                return attempt()
            except Interrupted as error:
                if wait == 0.5:
                    events.message(f"{self.uri} does not answer ({error}); a checkpoint may be there: waiting for it")
                if time.monotonic() - started > PATIENCE_SECONDS:
                    remedy = f"It did not for {PATIENCE_SECONDS:.0f} s. The last attempt: {error}"
                    raise Unavailable(VARIABLE, self.uri, "an object store that answers", remedy) from error
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def split(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``.

    Raises:
        ConfigurationError: it is none, or holds credentials.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if "@" in bucket or ":" in bucket:
        remedy = "Put credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server into AWS_ENDPOINT_URL"
        raise ConfigurationError(VARIABLE, f"s3://…@{bucket.rpartition('@')[2]}", "s3://bucket/prefix", remedy)
    if scheme != "s3" or not bucket:
        raise ConfigurationError(VARIABLE, uri, "s3://bucket/prefix")
    return bucket, prefix


def _tensors(sha256: str) -> str:
    return f"tensors-{sha256[:16]}.safetensors"


def _complete(keys: list[str], place: str) -> list[str]:
    """Return the names of the complete checkpoints right under ``place``, newest first."""
    names = [key.removeprefix(place + "/").split("/") for key in keys]
    return sorted((n[0] for n in names if len(n) == 2 and n[1] == STATE and n[0].startswith("step-")), reverse=True)
