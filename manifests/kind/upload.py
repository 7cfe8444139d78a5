"""Copy files of this machine to the cluster's S3 store: python upload.py ENDPOINT KEYS_FILE S3_URL FILE..."""

import sys
from pathlib import Path

import boto3
from botocore.config import Config


def main(endpoint: str, keys_file: str, url: str, *files: str) -> None:
    """Read the keys (accesskey=, secretkey=) and upload each file under its own name."""
    keys = dict(line.split("=", 1) for line in Path(keys_file).read_text().splitlines())
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys["accesskey"],
        aws_secret_access_key=keys["secretkey"],
        config=Config(s3={"addressing_style": "path"}, retries={"mode": "adaptive", "max_attempts": 10}),
    )
    for file in files:
        client.upload_file(file, bucket, f"{prefix}/{Path(file).name}")
        print(f"{file} -> {url}/{Path(file).name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
