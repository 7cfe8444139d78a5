"""Steps in containers of the train image: what ``undercut run --runner docker`` needs of KFP's DockerRunner.

A container sees the workspace, the sources (read-only) and the variables that :data:`PASSED` names, all
at the places and with the values that they have here, so that display, ledger, MLflow and cache work as
with processes. Its network is this machine's: addresses mean the same. It runs as a numeric user that is
not root, without capabilities, and ends with the run: its standard input is held open by this process.

KFP 2.17 removes a container before it asks how it ended, and takes the answer "no such container" for
success; :meth:`Containers.run` stands in for that function.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import ContainerError, DockerException, ImageNotFound
from docker.models.containers import Container
from requests import RequestException

from undercut import registry, storage, workspace
from undercut.errors import ConfigurationError
from undercut.images import TRAIN_IMAGE, USER

WORKSPACE, PROCESS = "undercut.workspace", "undercut.process"  # labels: whose container it is
REMEDY = "Start Docker, or leave --runner out: steps then run as processes of this machine"
CODE = "from undercut.workspace import code_digest; print(code_digest())"
# What a step may read of this process's environment: where it works, how many threads it takes, what it logs in with.
PASSED = (
    *("UNDERCUT_HOME", "UNDERCUT_EVENTS", "UNDERCUT_STUDY_URL", "UNDERCUT_DOWNLOAD_GB", "UNDERCUT_SQL_PASSWORD"),
    *(registry.RUN_VARIABLE, "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    *("MLFLOW_TRACKING_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "PGPASSWORD"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


class Containers:
    """The containers of one run.

    Args:
        sources: the run's local paths and URIs; what is a path is mounted.

    Raises:
        ConfigurationError: Docker does not answer, or the image is not here or is another one.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        try:
            self._client = docker.from_env()
            self._image = self._client.images.get(TRAIN_IMAGE)
            self.code_digest = self._ask_for_code()
        except ImageNotFound as error:
            remedy = "Build it: make images; UNDERCUT_TRAIN_IMAGE names another"
            raise ConfigurationError("--runner", "docker", f"an image {TRAIN_IMAGE} on this machine", remedy) from error
        except (DockerException, RequestException) as error:
            found = str(error).splitlines()[0][:200]
            raise ConfigurationError("--runner", "docker", f"a Docker that answers ({found})", REMEDY) from error
        self._sources = [str(path) for path in map(_mountable, sources) if path]
        # What a run left that was killed.
        self._remove(lambda container: container.status != "exited" or psutil.pid_exists(_process(container)))

    def _ask_for_code(self) -> str:
        """Return the digest of the code in the image, and with it learn that a container starts at all."""
        command = ["python3", "-c", CODE]
        try:
            shown = self._client.containers.run(self._image.id, command, remove=True, network_disabled=True)
        except ContainerError as error:
            remedy = "Build the train image of this checkout: make images"
            raise ConfigurationError("UNDERCUT_TRAIN_IMAGE", TRAIN_IMAGE, "an image with Undercut", remedy) from error
        return str(shown.decode().strip())

    @property
    def cache(self) -> str:
        """Return the name of the cache of this image's steps: by its code, and by all else that is in it."""
        return f"{self.code_digest[:16]}-{str(self._image.id).removeprefix('sha256:')[:12]}"

    def differs(self) -> str:
        """Say that the image holds other code than this checkout; empty if it is the same."""
        if self.code_digest == workspace.code_digest():
            return ""
        return f"{TRAIN_IMAGE} holds other code than this checkout, and its code is what runs. make images rebuilds it."

    def run(
        self, client: docker.DockerClient, image: str, command: Sequence[str], volumes: Mapping[str, Any], **_: Any
    ) -> int:
        """Run one step in a container and return its exit code; in the place of KFP's function of this signature.

        Raises:
            RuntimeError: Docker refused, or went away.
        """
        mode = next(iter(volumes.values()))["mode"]  # with SELinux it asks for a label
        for folder in volumes:
            Path(folder).mkdir(parents=True, exist_ok=True)
        _hand_over(workspace.home())
        mounts = dict.fromkeys(self._sources, mode.replace("rw", "ro")) | {str(workspace.home()): mode}
        places = {path: {"bind": path, "mode": how} for path, how in mounts.items()}
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        try:
            container = client.containers.create(
                image,
                list(command),
                volumes={**volumes, **places},
                environment={**environment, "UNDERCUT_RUN_STDIN": "1"},
                user=_user(),
                network_mode="host",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                shm_size="1g",
                stdin_open=True,
                labels={WORKSPACE: str(workspace.home()), PROCESS: str(os.getpid())},
            )
            return _follow(container)
        except (DockerException, RequestException) as error:
            raise RuntimeError(f"Docker: {error}") from error

    def stop(self) -> None:
        """End this run's containers at once."""
        self._remove(lambda container: _process(container) != os.getpid())

    def _remove(self, keep: Callable[[Container], bool]) -> None:
        filters = {"label": f"{WORKSPACE}={workspace.home()}"}
        for container in self._client.containers.list(all=True, filters=filters, ignore_removed=True):
            if not keep(container):
                container.remove(force=True)


def _follow(container: Container) -> int:
    """Start a container, print what it prints, wait for its end and remove it."""
    try:
        # Docker closes the container's standard input when this connection ends, however this process does.
        lifeline: socket.SocketIO = container.attach_socket(params={"stdin": 1, "stream": 1})
        try:
            container.start()
            for part in container.logs(stream=True, follow=True):
                print(part.decode(errors="replace"), end="")
            return int(container.wait()["StatusCode"])
        finally:
            lifeline.close()
    finally:
        container.remove(force=True)


def _process(container: Container) -> int:
    return int(container.labels[PROCESS])


def _mountable(uri: str) -> Path | None:
    """Return the absolute path that a source names, or None if a step fetches it by itself."""
    bare = storage.without_pin(uri)
    scheme = bare.partition("://")[0].lower() if "://" in bare else ""
    if not bare or scheme not in ("", "file"):
        return None
    return storage.SCHEMES[scheme](bare, "source", "").absolute()


def _user() -> str:
    """Return the user that steps run as: this one, whose files they write; not root, even where this one is."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"


def _hand_over(home: Path) -> None:
    """Where this process is root, give the workspace's files to the user that steps run as."""
    if os.getuid():
        return
    for folder, _, files in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if os.lstat(path).st_uid == 0:
                os.chown(path, USER, USER, follow_symlinks=False)
