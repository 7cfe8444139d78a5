"""Copy MLflow's objects and the database's dump to a backup, and back.

    python snapshot.py save FOLDER       FOLDER/mlflow.dump and every object under SOURCES, to BACKUP
    python snapshot.py restore FOLDER    the newest snapshot, or SNAPSHOT, to SOURCES and FOLDER/mlflow.dump

A backup is two prefixes: ``objects/BUCKET/KEY/ETAG``, each version of an object once, and
``snapshots/TIME/`` with ``mlflow.dump`` and, written last, ``manifest.json``: a snapshot without one is not
complete and is never used. The dump is made before the objects are copied, so each object that its rows name is
among them (MLflow writes an artifact once and deletes none by itself). Restoring puts objects back before the
rows, and deletes none.

Environment: SOURCES, BACKUP (s3:// URLs), KEEP (how many snapshots), SNAPSHOT; MLFLOW_S3_ENDPOINT_URL,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the store; BACKUP_ENDPOINT_URL, BACKUP_ACCESS_KEY_ID and
BACKUP_SECRET_ACCESS_KEY where the backup is in another one.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

DUMP = "mlflow.dump"
MANIFEST = "manifest.json"
RETRIES = Config(retries={"mode": "adaptive", "max_attempts": 10}, s3={"addressing_style": "path"})
PROGRESS_EVERY = 1000


def connect(prefix: str) -> Any:
    """Return an S3 client: of the store, or for ``BACKUP_`` of the backup's, by default the same one."""
    endpoint = os.environ.get(f"{prefix}ENDPOINT_URL") or os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    key, secret = (os.environ.get(f"{prefix}{n}") or os.environ[f"AWS_{n}"] for n in names)
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, config=RETRIES
    )


def split(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix, ending in a slash, of an s3:// URL."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket or not prefix:
        raise SystemExit(f"got {url!r}, expected s3://BUCKET/PREFIX")
    return bucket, prefix.rstrip("/") + "/"


def listed(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str, int]]:
    """Yield the key, the ETag and the size in bytes of every object under a prefix."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            yield item["Key"], item["ETag"].strip('"'), item["Size"]


def stored(prefix: str, item: dict[str, Any]) -> str:
    """Return the key in the backup of one version of an object."""
    return f"{prefix}objects/{item['bucket']}/{item['key']}/{item['etag']}"


def copy(source: Any, origin: tuple[str, str], target: Any, goal: tuple[str, str], size: int) -> None:
    """Stream one object from one store to another and compare the sizes."""
    body = source.get_object(Bucket=origin[0], Key=origin[1])["Body"]
    target.upload_fileobj(body, Bucket=goal[0], Key=goal[1])
    arrived = target.head_object(Bucket=goal[0], Key=goal[1])["ContentLength"]
    if arrived != size:
        raise SystemExit(f"{origin[1]}: {size} bytes were expected, {arrived} arrived")


def snapshots(client: Any, bucket: str, prefix: str) -> list[str]:
    """Return the times of the complete snapshots, oldest first."""
    keys = [key for key, _, _ in listed(client, bucket, f"{prefix}snapshots/")]
    return sorted(key.split("/")[-2] for key in keys if key.endswith(f"/{MANIFEST}"))


def manifest(client: Any, bucket: str, prefix: str, time: str) -> dict[str, Any]:
    """Return what a snapshot holds."""
    body = client.get_object(Bucket=bucket, Key=f"{prefix}snapshots/{time}/{MANIFEST}")["Body"]
    content: dict[str, Any] = json.load(body)
    return content


def save(folder: Path) -> str:
    """Add a snapshot, drop those beyond KEEP, and return its time."""
    store, backup = connect("AWS_"), connect("BACKUP_")
    bucket, prefix = split(os.environ["BACKUP"])
    present = {key for key, _, _ in listed(backup, bucket, f"{prefix}objects/")}
    objects, copied = [], 0
    for source in os.environ["SOURCES"].split():
        origin, under = split(source)
        for key, etag, size in listed(store, origin, under):
            name = stored(prefix, {"bucket": origin, "key": key, "etag": etag})
            if name not in present:
                copy(store, (origin, key), backup, (bucket, name), size)
                copied += 1
                if copied % PROGRESS_EVERY == 0:
                    print(f"{copied} objects copied", flush=True)
            objects.append({"bucket": origin, "key": key, "etag": etag, "size": size})
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    dump = (folder / DUMP).read_bytes()
    content = {"time": time, "dump_sha256": hashlib.sha256(dump).hexdigest(), "objects": objects}
    backup.put_object(Bucket=bucket, Key=f"{prefix}snapshots/{time}/{DUMP}", Body=dump)
    backup.put_object(Bucket=bucket, Key=f"{prefix}snapshots/{time}/{MANIFEST}", Body=json.dumps(content).encode())
    print(f"snapshot {time}: {len(objects)} objects, {copied} of them new; a dump of {len(dump)} bytes")
    prune(backup, bucket, prefix, int(os.environ.get("KEEP", "14")))
    # Another backup at the same time may have dropped what this one found there.
    present = {key for key, _, _ in listed(backup, bucket, f"{prefix}objects/")}
    if missing := [o["key"] for o in objects if stored(prefix, o) not in present]:
        backup.delete_object(Bucket=bucket, Key=f"{prefix}snapshots/{time}/{MANIFEST}")
        raise SystemExit(f"{len(missing)} objects vanished from the backup meanwhile, {missing[0]} first: run again")
    return time


def prune(client: Any, bucket: str, prefix: str, keep: int) -> None:
    """Delete all but the newest snapshots, and the objects that none of them names."""
    kept = snapshots(client, bucket, prefix)[-max(keep, 1) :]
    manifests = [manifest(client, bucket, prefix, time) for time in kept]
    named = {stored(prefix, o) for m in manifests for o in m["objects"]}
    for key, _, _ in listed(client, bucket, f"{prefix}snapshots/"):
        if key.split("/")[-2] not in kept:
            client.delete_object(Bucket=bucket, Key=key)
    for key, _, _ in listed(client, bucket, f"{prefix}objects/"):
        if key not in named:
            client.delete_object(Bucket=bucket, Key=key)


def restore(folder: Path) -> str:
    """Put a snapshot's objects back, write its dump to the folder, and return its time."""
    store, backup = connect("AWS_"), connect("BACKUP_")
    bucket, prefix = split(os.environ["BACKUP"])
    times = snapshots(backup, bucket, prefix)
    time = os.environ.get("SNAPSHOT") or (times[-1] if times else "")
    if time not in times:
        raise SystemExit(f"no complete snapshot {time!r} under {os.environ['BACKUP']}; there are: {times}")
    content = manifest(backup, bucket, prefix, time)
    dump = backup.get_object(Bucket=bucket, Key=f"{prefix}snapshots/{time}/{DUMP}")["Body"].read()
    if hashlib.sha256(dump).hexdigest() != content["dump_sha256"]:
        raise SystemExit(f"the dump of snapshot {time} is damaged; there are: {times}")
    for item in content["objects"]:
        copy(backup, (bucket, stored(prefix, item)), store, (item["bucket"], item["key"]), item["size"])
    (folder / DUMP).write_bytes(dump)
    print(f"snapshot {time}: {len(content['objects'])} objects are back; the dump is at {folder / DUMP}")
    return time


if __name__ == "__main__":
    {"save": save, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))
