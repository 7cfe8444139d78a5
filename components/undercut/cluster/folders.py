"""Folders and small files to an S3 store, for pods that train what another pod hands on."""

from pathlib import Path

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from undercut import artifacts, events
from undercut.objects import connect


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
    """Put an artifact's files under a prefix, its manifest last: a prefix with a manifest is a complete artifact."""
    bucket, key = split(uri.rstrip("/") + "/")
    manifest = artifacts.manifest_name(folder)
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.name == manifest, p))
    client = connect()
    for done, path in enumerate(files, 1):
        name = path.relative_to(folder).as_posix()
        client.upload_file(str(path), bucket, key + name, Config=TransferConfig(max_concurrency=4))
        events.progress(done, len(files), f"uploaded {name}")


def write(uri: str, data: bytes) -> None:
    """Write one small object."""
    bucket, key = split(uri)
    connect().put_object(Bucket=bucket, Key=key, Body=data)


def read(uri: str) -> bytes | None:
    """Return one small object, or None if there is none."""
    bucket, key = split(uri)
    try:
        data: bytes = connect().get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    return data
