"""A real API server for the tests of this folder: that of UNDERCUT_TEST_KUBECONFIG, or they are skipped.

Its user has to be an administrator. CRDs are not installed here: what the server does not serve is skipped.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manifests.admission.server import RESTRICTED, ApiServer, Object, as_our_own
from tests.manifests.admission.step_pods import ACCOUNT, RUN_ID
from tests.manifests.rendering import MANIFESTS, OVERLAYS, rendered


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """The server; everything with our mark is deleted at the end."""
    kubeconfig = os.environ.get("UNDERCUT_TEST_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("UNDERCUT_TEST_KUBECONFIG names no API server to try the manifests on")
    found = ApiServer(kubeconfig)
    yield found
    found.remove_everything()


STEP = {"UNDERCUT_RUN_ID": RUN_ID, "UNDERCUT_IMAGE": "registry.example/train:1", "UNDERCUT_TEAM": "support"}


class Overlay:
    """An overlay in namespaces of its own, all under Pod Security `restricted`.

    Args:
        server: where it is applied.
        folder: the overlay.
    """

    def __init__(self, server: ApiServer, folder: str) -> None:
        self.server, short = server, folder.rpartition("/")[2]
        own = {name: f"{server.mark}-{short}-{name}" for name in ("kubeflow", "undercut", "user-example")}
        self.names = {**own, "undercut-training": f"{server.mark}-{short}"}
        if short == "profile":  # what a cluster needs once comes from another overlay
            self.names["undercut-training"] = f"{server.mark}-kind"
        self.runs = own["user-example" if short == "profile" else "kubeflow"]
        self.platform = own["undercut"]
        items = as_our_own(rendered(MANIFESTS / folder), self.names, server.mark)
        self.served = [item for item in items if server.serves(item)]
        self.missing = sorted({i["kind"] for i in items if not server.serves(i)})
        server.namespace(self.runs, {**RESTRICTED, "undercut/test": server.mark})
        server.apply(self.served)
        if any(i["kind"] == "Namespace" for i in self.served):
            server.account(self.platform, "default")
        for quota in (i for i in self.served if i["kind"] == "ResourceQuota"):
            server.count_anew(self.runs, quota["metadata"]["name"])

    def of_kind(self, kind: str) -> Object:
        """Return its one object of a kind; skip where the server does not serve it."""
        if kind in self.missing:
            pytest.skip(f"the server does not serve {kind}: its CRD is not installed")
        (found,) = (item for item in self.served if item["kind"] == kind)
        return found


@pytest.fixture(scope="session")
def overlays(server: ApiServer) -> dict[str, Overlay]:
    """Every overlay, applied once."""
    return {folder: Overlay(server, folder) for folder in OVERLAYS}


@pytest.fixture(scope="session")
def gpu(overlays: dict[str, Overlay]) -> Overlay:
    return overlays["overlays/gpu"]


@pytest.fixture(scope="session")
def token(gpu: Overlay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu.server.as_account(gpu.runs, ACCOUNT, tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(gpu: Overlay, token: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overlay]:
    """This process is a step of a run: it has the ServiceAccount's token, and its pod is there."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(token))
    become(gpu, "step-1", monkeypatch)
    yield gpu
    for pod in gpu.server.core.list_namespaced_pod(gpu.runs).items:
        gpu.server.core.delete_namespaced_pod(pod.metadata.name, gpu.runs, grace_period_seconds=0)


def become(overlay: Overlay, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a pod and be it."""
    restricted = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {"containers": [{"name": "main", "image": "none", "securityContext": locked}], "securityContext": restricted}
    made = overlay.server.create_pod(overlay.runs, {"metadata": {"name": name}, "spec": spec})
    here = {"UNDERCUT_POD": name, "UNDERCUT_POD_UID": made["metadata"]["uid"], "UNDERCUT_NAMESPACE": overlay.runs}
    for variable, value in {**STEP, **here}.items():
        monkeypatch.setenv(variable, value)
