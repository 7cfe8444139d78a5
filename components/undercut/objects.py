"""``s3://bucket/key`` to a local file, ``s3://bucket/prefix/`` to a local folder, streamed.

The endpoint is ``AWS_ENDPOINT_URL`` (SeaweedFS, MinIO; AWS if it is not set) and the credentials are
those that boto3 finds around it: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` in the
environment, a pod's identity, ``~/.aws``; never the URI.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ResponseStreamingError,
)

from undercut import downloads
from undercut.downloads import Have, Interrupted, Opened
from undercut.errors import ConfigurationError

_CHUNK = 1 << 16
_BROKEN = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)
_REMEDIES = {
    "NoSuchBucket": "There is no such bucket: check its name and AWS_ENDPOINT_URL",
    "NoSuchKey": "There is no such object: check the key; a folder's URI ends in /",
    "404": "There is no such object: check the key; a folder's URI ends in /",
    "AccessDenied": "These credentials may not read it: check AWS_ACCESS_KEY_ID and the bucket's policy",
    "403": "These credentials may not read it: check AWS_ACCESS_KEY_ID and the bucket's policy",
    "InvalidAccessKeyId": "The server does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
}


def from_objects(uri: str, field: str, pinned: str) -> Path:
    """Fetch an object, or all objects under a prefix that ends in ``/``.

    Args:
        uri: ``s3://bucket/key``.
        field: the setting that names it.
        pinned: the SHA-256 it must have, or empty.

    Raises:
        ConfigurationError: the URI is no such URI or holds credentials, there are none around, the bucket
            or object is not there or may not be read, or the server cannot be reached.
    """
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    if "@" in bucket or ":" in bucket:
        remedy = "Put credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server into AWS_ENDPOINT_URL"
        raise ConfigurationError(field, f"s3://…@{bucket.rpartition('@')[2]}/{key}", "s3://bucket/key", remedy)
    if not bucket or not key:
        raise ConfigurationError(field, uri, "s3://bucket/key, or s3://bucket/folder/")
    client = connect()
    if not key.endswith("/"):
        return _fetch(client, bucket, key, field, pinned)
    keys = _list(client, bucket, key, uri, field)
    place = downloads.folder(uri)
    with downloads.locked(place):
        return _assemble({name: _fetch(client, bucket, key + name, field, "") for name in keys}, place)


def connect(connect_timeout: float = 10, read_timeout: float = 60, attempts: int = 4) -> Any:
    """Return boto3's client of the object store that the environment names.

    Args:
        connect_timeout: seconds.
        read_timeout: seconds without a byte of an answer.
        attempts: how often boto3 tries by itself; a stopped server takes all of them within a second.
    """
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if own else "auto"},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.Session().client("s3", config=config, region_name=region)


def _fetch(client: Any, bucket: str, key: str, field: str, pinned: str) -> Path:
    uri = f"s3://{bucket}/{key}"

    @contextlib.contextmanager
    def open_object(have: Have) -> Iterator[Opened]:
        with explained(uri, field):
            head = client.head_object(Bucket=bucket, Key=key)
            same = have.version == head["ETag"]
            if have.complete and same:
                yield Opened(unchanged=True)
                return
            start = have.bytes if same and not have.complete and have.bytes < head["ContentLength"] else 0
            byte_range = {"Range": f"bytes={start}-"} if start else {}
            content = client.get_object(Bucket=bucket, Key=key, IfMatch=head["ETag"], **byte_range)
        with contextlib.closing(content["Body"]) as body:
            yield Opened(
                chunks=_chunks(body, uri, field), start=start, total=head["ContentLength"], version=head["ETag"]
            )

    return downloads.fetch(uri, downloads.folder(uri) / downloads.safe_name(key), field, pinned, open_object)


def _chunks(body: Any, uri: str, field: str) -> Iterator[bytes]:
    with explained(uri, field):
        yield from body.iter_chunks(_CHUNK)


@contextlib.contextmanager
def explained(uri: str, field: str) -> Iterator[None]:
    """Turn boto3's errors into ours: what another attempt may mend, and what the user must.

    Args:
        uri: what is read or written.
        field: the setting that names it.

    Raises:
        Interrupted: the connection broke, or the server could not answer now.
        ConfigurationError: it is not there, may not be read, or there are no credentials.
    """
    try:
        yield
    except _BROKEN as error:
        raise Interrupted(str(error)) from error
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 or status in (412, 429):  # 412: another version since the answer before
            raise Interrupted(str(error)) from error
        remedy = _REMEDIES.get(code, str(error))
        raise ConfigurationError(field, uri, "an object that can be read", remedy) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        raise ConfigurationError(field, uri, "an object whose credentials are known", remedy) from error
    except (BotoCoreError, ParamValidationError, ValueError) as error:
        raise ConfigurationError(field, uri, "an S3 address and settings that boto3 takes", str(error)) from error


def _list(client: Any, bucket: str, prefix: str, uri: str, field: str) -> list[str]:
    """Return the names under a prefix, those that are safe as paths and together not too large."""
    found: dict[str, int] = {}

    def attempt() -> None:
        found.clear()
        with explained(uri, field):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found.update((entry["Key"].removeprefix(prefix), entry["Size"]) for entry in page.get("Contents", []))

    downloads.persist(attempt, uri, field)
    names = sorted(name for name in found if name and not name.endswith("/"))
    if not names:
        raise ConfigurationError(field, uri, "a folder with objects", "Nothing is under this prefix: check it")
    unsafe = next((n for n in names if ".." in PurePosixPath(n).parts or n.startswith("/") or "\0" in n), None)
    if unsafe is not None:
        raise ConfigurationError(field, f"{uri}{unsafe}", "object names that stay inside the folder")
    place = downloads.folder(uri)
    place.mkdir(parents=True, exist_ok=True)
    downloads.check_size(sum(found.values()), 0, place, uri, field)
    return names


def _assemble(files: dict[str, Path], place: Path) -> Path:
    """Link the copies into one folder and put it in the old one's place, unless that has just these."""
    folder, partial = place / "content", place / "content.partial"
    present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    if present.keys() == files.keys() and all(present[name].samefile(path) for name, path in files.items()):
        return folder
    shutil.rmtree(partial, ignore_errors=True)
    for name, path in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).hardlink_to(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
