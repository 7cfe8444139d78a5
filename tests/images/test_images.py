"""Both images as they were built: size, user, programs, and what is not in them."""

import docker
import pytest
from undercut.images import SERVE_IMAGE, TRAIN_IMAGE, USER

pytestmark = pytest.mark.container
LARGEST = {TRAIN_IMAGE: 2_500_000_000, SERVE_IMAGE: 600_000_000}
CLOSED = {"remove": True, "network_disabled": True, "read_only": True, "tmpfs": {"/tmp": ""}}


def shown(engine: docker.DockerClient, image: str, command: list[str], **options: object) -> str:
    entrypoint, *rest = command
    found = engine.containers.run(image, rest, entrypoint=[entrypoint], stderr=True, **CLOSED, **options)
    return str(found.decode())


@pytest.mark.parametrize("image", LARGEST)
def test_it_is_small_and_not_of_root(engine: docker.DockerClient, image: str) -> None:
    facts = engine.images.get(image).attrs
    assert facts["Size"] <= LARGEST[image]
    assert facts["Config"]["User"] == f"{USER}:{USER}"
    labels = facts["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert shown(engine, image, ["id", "-u"]).strip() == str(USER)


def test_a_login_shell_finds_python_and_torchrun(engine: docker.DockerClient) -> None:
    """Kubeflow's SDK starts containers by ``bash -lc``, and Debian's profile sets PATH anew."""
    command = "echo $PATH; command -v python torchrun && python -c 'import torch, undercut.training'"
    path, *programs = shown(engine, TRAIN_IMAGE, ["bash", "-lc", command]).split()
    assert "venv" not in path
    assert programs == ["/usr/local/bin/python", "/usr/local/bin/torchrun"]


@pytest.mark.parametrize("image", LARGEST)
def test_any_numeric_user_may_run_it(engine: docker.DockerClient, image: str) -> None:
    code = "import tempfile, undercut.artifacts; print(tempfile.mkdtemp()[:5])"
    assert shown(engine, image, ["python3", "-c", code], user="4711:4711").strip() == "/tmp/"


def test_the_serve_image_has_no_torch(engine: docker.DockerClient) -> None:
    code = (
        "import importlib.util as u; print([n for n in ('torch', 'transformers', 'mlflow', 'pip') if u.find_spec(n)])"
    )
    assert shown(engine, SERVE_IMAGE, ["python", "-c", code]).strip() == "[]"


@pytest.mark.parametrize("image", LARGEST)
def test_it_holds_this_checkouts_code(engine: docker.DockerClient, image: str) -> None:
    from undercut import workspace

    code = "from undercut.workspace import code_digest; print(code_digest())"
    assert shown(engine, image, ["python", "-c", code]).strip() == workspace.code_digest.__wrapped__()
