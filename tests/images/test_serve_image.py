"""The serve image answers with a read-only root, as a numeric user, and without any network."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from undercut import artifacts
from undercut.images import SERVE_IMAGE
from undercut.predictors import load_predictor

pytestmark = pytest.mark.container
# Asked from inside: there is no network to ask through.
ASK = """
import json, sys, urllib.request
url, body = sys.argv[1:]
headers = {"Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8080" + url, body.encode() or None, headers)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


def ask(container: Container, url: str, body: object = None) -> Any:
    text = "" if body is None else json.dumps(body)
    for _ in range(5):  # Docker 20.10 now and then loses what a short command prints
        code, shown = container.exec_run(["python", "-c", ASK, url, text])
        assert code == 0, shown.decode()
        if shown:
            break
    return json.loads(shown)


def readable(folder: Path) -> None:
    """Let every user read a model folder: safetensors writes files for its owner alone."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def serve(start: Callable[..., Container], folder: Path) -> Container:
    readable(folder)
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


def servable(home: Path, form: str) -> Path:
    folders = [path.parent for path in home.glob("runs/*/artifacts/*/**/quantize/servable/model.json")]
    return next(folder for folder in folders if artifacts.load(folder, artifacts.MODEL)["format"] == form)


@pytest.mark.parametrize("form", ["onnx", "linear"])
def test_it_answers_v1_and_v2(start: Callable[..., Container], homes: dict[str, Path], form: str) -> None:
    folder = servable(homes["docker"], form)
    container = serve(start, folder)
    texts = ["where is my refund", "cancel my order", "where is my parcel", "ça va?"]
    predictor = load_predictor(folder)
    expected = predictor.probabilities(texts)
    labels = [predictor.labels[i] for i in expected.argmax(axis=1)]
    v1 = ask(container, "/v1/models/intents:predict", {"instances": texts})["predictions"]
    assert [answer["label"] for answer in v1] == labels
    assert [answer["probability"] for answer in v1] == pytest.approx(expected.max(axis=1), abs=1e-4)
    inputs = [{"name": "text", "shape": [4], "datatype": "BYTES", "data": texts}]
    v2 = ask(container, "/v2/models/intents/infer", {"inputs": inputs})
    assert next(o["data"] for o in v2["outputs"] if o["name"] == "label") == labels
    assert ask(container, "/v2/health/ready") == {"ready": True}


def test_a_model_that_needs_torch_is_refused_in_one_line(engine: docker.DockerClient, homes: dict[str, Path]) -> None:
    folder = next(homes["docker"].glob("runs/*/artifacts/*/finetune/model"))
    readable(folder)
    volumes = {str(folder): {"bind": "/mnt/models", "mode": "ro"}}
    container = engine.containers.run(SERVE_IMAGE, volumes=volumes, detach=True, network_mode="none")
    try:
        assert container.wait()["StatusCode"] == 2
        said = container.logs().decode()
    finally:
        container.remove(force=True)
    assert len(said.splitlines()) == 1
    assert "model.format" in said
    assert "torch" in said
