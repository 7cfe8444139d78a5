"""The serve image answers with a read-only root, as a numeric user, and without any network."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from undercut.images import SERVE_IMAGE

pytestmark = pytest.mark.container
# Asked from inside: there is no network to ask through.
ASK = """
import json, sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:8080" + url, body.encode() or None)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


def ask(container: Container, url: str, body: object = None) -> Any:
    text = "" if body is None else json.dumps(body)
    code, shown = container.exec_run(["python", "-c", ASK, url, text])
    assert code == 0, shown.decode()
    return json.loads(shown)


def serve(start: Callable[..., Container], folder: Path) -> Container:
    folder.chmod(0o755)
    container = start(
        SERVE_IMAGE,
        ["--model", "/mnt/models", "--name", "intents", "--host", "0.0.0.0"],
        volumes={str(folder): {"bind": "/mnt/models", "mode": "ro"}},
        read_only=True,
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    end = time.monotonic() + 120
    while b"serving intents" not in container.logs():
        container.reload()
        assert container.status in ("created", "running"), container.logs().decode()
        assert time.monotonic() < end, container.logs().decode()
        time.sleep(0.2)
    return container


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, small_data: Path) -> Path:
    from undercut.quantize.export import QuantizeConfig, quantize

    folder = tmp_path_factory.mktemp("onnx") / "model"
    quantize(tiny_teacher, small_data, folder, QuantizeConfig(precision="int8"))
    return folder


def test_it_answers_v1_and_v2(start: Callable[..., Container], onnx_model: Path) -> None:
    container = serve(start, onnx_model)
    texts = ["where is my refund", "cancel my order", "where is my parcel"]
    v1 = ask(container, "/v1/models/intents:predict", {"instances": texts})["predictions"]
    assert [answer["label"] for answer in v1] == ["refund", "cancel", "track"]
    inputs = [{"name": "text", "shape": [3], "datatype": "BYTES", "data": texts}]
    v2 = ask(container, "/v2/models/intents/infer", {"inputs": inputs})
    assert next(o["data"] for o in v2["outputs"] if o["name"] == "label") == ["refund", "cancel", "track"]
    assert ask(container, "/v2/health/ready") == {"ready": True}


def test_a_linear_model_is_served_too(start: Callable[..., Container], linear_model: Path) -> None:
    answers = ask(serve(start, linear_model), "/v1/models/intents:predict", {"instances": ["cancel my order"]})
    assert answers["predictions"][0]["label"] == "cancel"


def test_a_model_that_needs_torch_is_refused_in_one_line(engine: docker.DockerClient, tiny_teacher: Path) -> None:
    for path in (tiny_teacher, *tiny_teacher.iterdir()):
        path.chmod(0o755)
    container = engine.containers.run(
        SERVE_IMAGE,
        volumes={str(tiny_teacher): {"bind": "/mnt/models", "mode": "ro"}},
        detach=True,
        network_mode="none",
    )
    try:
        assert container.wait()["StatusCode"] == 2
        said = container.logs().decode()
    finally:
        container.remove(force=True)
    assert len(said.splitlines()) == 1
    assert "model.format" in said
    assert "torch" in said
