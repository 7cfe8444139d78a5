"""A real server process, asked over HTTP."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from undercut import artifacts
from undercut.predictors import load_predictor
from undercut.serving.__main__ import main

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXTS = ["where is my refund", "stop the order please", "has it shipped yet"]


@pytest.fixture(scope="module")
def server(linear_model: Path, start_server: Callable[..., Any]) -> Iterator[Any]:
    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    running = start_server("--model", str(linear_model), "--name", "shop", "--digest", digest)
    yield running
    running.process.terminate()
    assert running.process.wait(10) in (0, -signal.SIGTERM)


@pytest.fixture(scope="module")
def url(server: Any) -> str:
    return str(server.url)


@pytest.fixture(scope="module")
def infer(url: str) -> Callable[..., requests.Response]:
    def post(data: list[Any], **changes: object) -> requests.Response:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data}
        body = {"inputs": [{**tensor, **changes.pop("tensor", {})}], **changes}  # type: ignore[dict-item]
        return requests.post(f"{url}/v2/models/shop/infer", json=body, timeout=10)

    return post


def test_v1_answers_names_and_probabilities(url: str, linear_model: Path) -> None:
    instances = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    response = requests.post(f"{url}/v1/models/shop:predict", json={"instances": instances}, timeout=10)
    predictor = load_predictor(linear_model)
    expected = predictor.probabilities(TEXTS)
    predictions = response.json()["predictions"]
    assert [p["label"] for p in predictions] == ["refund", "cancel", "track"]
    for prediction, row in zip(predictions, expected, strict=True):
        assert prediction["probability"] == pytest.approx(row.max(), abs=1e-6)
        assert [t["label"] for t in prediction["top"]] == [predictor.labels[i] for i in np.argsort(-row)[:3]]
        assert prediction["top"][0] == {k: prediction[k] for k in ("label", "probability")}


def test_v1_takes_json_without_the_header(url: str) -> None:
    """As plain ``curl -d`` sends it."""
    body = '{"instances": ["where is my refund"]}'
    response = requests.post(f"{url}/v1/models/shop:predict", data=body, headers=FORM, timeout=10)
    assert response.json()["predictions"][0]["label"] == "refund"


def test_v2_answers_names_and_probabilities(infer: Callable[..., requests.Response], linear_model: Path) -> None:
    response = infer(TEXTS, id="7")
    answer = response.json()
    outputs = {o["name"]: o for o in answer["outputs"]}
    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    assert (answer["id"], answer["parameters"]) == ("7", {"model_digest": digest})
    assert response.headers["undercut-model-digest"] == digest
    assert outputs["label"] | {"datatype": "BYTES", "data": ["refund", "cancel", "track"]} == outputs["label"]
    expected = load_predictor(linear_model).probabilities(TEXTS).max(axis=1)
    assert outputs["probability"]["datatype"] == "FP32"
    assert outputs["probability"]["data"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert outputs.keys() == {"label", "probability"}


def test_v2_gives_all_probabilities_on_request(infer: Callable[..., requests.Response], linear_model: Path) -> None:
    nested = [[text] for text in TEXTS]
    answer = infer(nested, tensor={"shape": [3, 1]}, outputs=[{"name": "probabilities"}]).json()
    (output,) = answer["outputs"]
    assert output["shape"] == [3, 3]
    expected = load_predictor(linear_model).probabilities(TEXTS)
    assert np.array(output["data"]).reshape(3, 3) == pytest.approx(expected, abs=1e-6)


def test_more_texts_than_one_batch(infer: Callable[..., requests.Response]) -> None:
    labels = infer(TEXTS * 30).json()["outputs"][0]["data"]
    assert labels == ["refund", "cancel", "track"] * 30


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": [3]}, "instances[0]: got int; allowed: a text"),
        ({"instances": ["a", {"txt": "b"}]}, "instances[1]: got NoneType"),
        ({"instances": []}, "got 0 texts; allowed: 1 to 4096"),
        ({"instances": ["a"] * 4097}, "got 4097 texts"),
        ({"inputs": ["a"]}, 'expected {"instances": ["text", …]}'),
        (["a"], 'expected {"instances"'),
    ],
)
def test_v1_bad_input_is_400(url: str, body: object, message: str) -> None:
    response = requests.post(f"{url}/v1/models/shop:predict", json=body, timeout=10)
    assert (response.status_code, message in response.json()["error"]) == (400, True), response.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [("v1/models/shop:predict", FORM), ("v1/models/shop:predict", {}), ("v2/models/shop/infer", {})],
)
def test_broken_json_is_400(url: str, path: str, headers: dict[str, str]) -> None:
    headers = headers or {"Content-Type": "application/json"}
    response = requests.post(f"{url}/{path}", data="{", headers=headers, timeout=10)
    assert response.status_code == 400
    assert re.search("JSON|request format", response.json()["error"])


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ([1.0], {"tensor": {"datatype": "FP32"}}, "one input of datatype BYTES"),
        (["a"], {"tensor": {"shape": [2]}}, "got 1 texts; its shape says 2"),
        (["\ud800"], {}, "inputs[0].data[0]: not valid Unicode"),
        (["a"], {"outputs": [{"name": "logits"}]}, "got 'logits'; allowed: label, probability, probabilities"),
        (["a"], {"inputs": 3}, "inputs: Input should be a valid list"),
    ],
)
def test_v2_bad_input_is_400(
    infer: Callable[..., requests.Response], data: list[Any], changes: dict[str, Any], message: str
) -> None:
    response = infer(data, **changes)
    assert (response.status_code, message in response.json()["error"]) == (400, True), response.text


HEAD = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}
ONE = (1).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("content", "length", "status"),
    [
        (ONE + b"a", None, 200),
        (ONE + b"\xff", None, 400),
        ((100).to_bytes(4, "little") + b"a", None, 400),
        (b"", None, 400),
        (ONE + b"a", "many", 400),
        (ONE + b"a", "2", 400),
    ],
)
def test_a_binary_v2_body_that_cannot_be_read_is_400(url: str, content: bytes, length: str | None, status: int) -> None:
    head = json.dumps(HEAD).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": length or str(len(head))}
    answer = requests.post(f"{url}/v2/models/shop/infer", data=head + content, headers=headers, timeout=10)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"] or status == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/models/shop:predict", "/v2/models/shop/infer"])
def test_a_body_that_is_too_large_is_413(url: str, path: str, chunked: bool) -> None:
    part, form = b"a" * (1 << 20), {"Content-Type": "application/json"}
    body: Any = (part for _ in range(9)) if chunked else part * 9
    answer = requests.post(f"{url}{path}", data=body, headers=form, timeout=10)
    assert (answer.status_code, answer.json()) == (413, {"error": "the body is too large; allowed: 8388608 bytes"})
    longest = '{"instances": ["' + "a " * (1 << 19) + '"]}'
    assert requests.post(f"{url}/v1/models/shop:predict", data=longest, headers=form, timeout=30).status_code == 200


def test_health_metadata_and_metrics(url: str, infer: Callable[..., requests.Response]) -> None:
    infer(TEXTS)
    get = {path: requests.get(f"{url}/{path}", timeout=10) for path in ("v2/health/ready", "v1/models/shop", "metrics")}
    assert get["v2/health/ready"].json() == {"ready": True}
    assert get["v1/models/shop"].json() == {"name": "shop", "ready": True}
    assert 'request_predict_seconds_count{model_name="shop"}' in get["metrics"].text
    metadata = requests.get(f"{url}/v2/models/shop", timeout=10).json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert requests.get(f"{url}/v1/models/other", timeout=10).status_code == 404


def test_the_log_is_one_line(server: Any, url: str) -> None:
    """After every test above, the refused requests included."""
    (line,) = server.log.read_text().splitlines()
    assert line.startswith(f"serving shop (linear/as-is, 3 labels) at {url}  try: curl {url}/v1/models/shop:predict")


def test_refusals_are_one_line(linear_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(folder: Path, *arguments: str) -> str:
        assert main(["--model", str(folder), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    copied = shutil.copytree(linear_model, tmp_path / "model")
    vocabulary = copied / "vocabulary.json"
    vocabulary.write_text(vocabulary.read_text().replace("refund", "parcel"))
    assert "model/vocabulary.json: got 'its SHA-256 is not the recorded one'" in refused(copied)
    assert "is not the recorded 000000000000" in refused(linear_model, "--digest", "0" * 64)
    lost = artifacts.load(linear_model, artifacts.MODEL) | {"lost": "it does not agree with its source"}
    (tmp_path / "lost").mkdir()
    artifacts.seal(tmp_path / "lost", artifacts.MODEL, lost)
    assert "it does not agree with its source" in refused(tmp_path / "lost")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"address: got '127.0.0.1:{port}'" in refused(linear_model, "--port", port)
    assert "address: got '127.0.0.1:70000'" in refused(linear_model, "--port", "70000")


def test_it_ends_with_the_process_named(linear_model: Path, start_server: Callable[..., Any]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        running = start_server("--model", str(linear_model), UNDERCUT_RUN_PID=str(owner.pid))
        owner.kill()
        assert running.process.wait(10) == 1


def test_no_torch_for_a_linear_model(linear_model: Path) -> None:
    code = (
        "import sys, undercut.serving.server; from undercut.serving.loading import load_model; from pathlib import Path\n"
        "load_model(Path(sys.argv[1]), threads=1)\n"
        "print({'torch', 'transformers', 'sklearn', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(linear_model)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
