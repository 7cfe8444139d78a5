"""What a folder must be to be served, and when a replaced model is freed."""

import asyncio
import gc
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.predictors import FloatArray, load_predictor
from undercut.quantize.export import QuantizeConfig, quantize
from undercut.serving.classifier import TextClassifier
from undercut.serving.loading import ServedModel, counting_tokenizer, load_model, smoke_test
from undercut.serving.settings import ServeConfig

# What the serve image does without. (pandas is not among it: KServe's own package imports it.)
ABSENT = (
    "torch", "transformers", "peft", "mlflow", "kfp", "sklearn", "scipy", "onnx", "onnxscript", "datasets", "optuna",
    "pyarrow", "boto3", "sqlalchemy", "jinja2", "typer",
)  # fmt: skip
WITHOUT = (
    f"import sys, runpy; sys.modules.update(dict.fromkeys({ABSENT!r}));"
    "runpy.run_module('undercut.serving', run_name='__main__')"
)


class Fixed:
    """A predictor that gives one row again and again."""

    def __init__(self, row: Sequence[float], labels: tuple[str, ...] = ("a", "b")) -> None:
        self.row, self.labels = row, labels

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        return np.array([self.row] * len(texts), np.float32)


@pytest.mark.parametrize(
    ("row", "labels", "message"),
    [
        ([0.5, float("nan")], ("a", "b"), "an answer that is not finite"),
        ([0.5, 0.4], ("a", "b"), "probabilities that sum to 0.9000"),
        ([1.5, -0.5], ("a", "b"), "an answer that is not between 0 and 1"),
        ([0.5, 0.3, 0.2], ("a", "b"), "answers of shape (5, 3), not (5, 2)"),
        ([0.5, 0.5], ("b", "a"), "model.labels: got ['b', 'a']"),
    ],
)
def test_answers_that_are_no_probabilities(row: list[float], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        smoke_test(Path("model"), Fixed(row, labels), ["a", "b"])
    assert message in str(refused.value)


def test_a_model_is_freed_after_its_last_request(linear_model: Path) -> None:
    """A request is held in its first batch, the model is exchanged, and the request still gets its own model."""
    entered, go_on = threading.Event(), threading.Event()

    class Held:
        def __init__(self) -> None:
            self._inner = load_predictor(linear_model)
            self.labels = self._inner.labels

        def probabilities(self, texts: Sequence[str]) -> FloatArray:
            entered.set()
            go_on.wait()
            return self._inner.probabilities(texts)

    async def exchange() -> tuple[Any, dict[str, str], list[bool]]:
        old, headers = Held(), {}
        freed = weakref.ref(old)
        classifier = TextClassifier("shop", ServedModel(predictor=old, digest="old", candidate="", tokenizer=None))
        request = asyncio.create_task(classifier.predict({"instances": ["a refund"] * 100}, None, headers))
        await asyncio.to_thread(entered.wait)
        classifier.model = ServedModel(predictor=Fixed([0, 1]), digest="new", candidate="", tokenizer=None)
        del old
        alive = [freed() is not None]
        go_on.set()
        answer = await request
        del request
        await classifier.predict({"instances": ["a refund"]})
        gc.collect()
        return answer, headers, [*alive, freed() is not None]

    answer, headers, alive = asyncio.run(exchange())
    assert headers == {"undercut-model-digest": "old"}
    assert {p["label"] for p in answer["predictions"]} == {"refund"}
    assert len(answer["predictions"]) == 100
    assert alive == [True, False]


def test_which_tokenizer_counts(linear_model: Path, tiny_base: Path, tmp_path: Path) -> None:
    def count(structure: str, other: Path | None = None, max_length: int = 64) -> int | None:
        found = counting_tokenizer(tmp_path, {"structure": structure, "max_length": max_length}, other)
        return len(found.ids(["stop the order please"])[0]) if found else None

    assert counting_tokenizer(linear_model, artifacts.load(linear_model, artifacts.MODEL), None) is None
    shutil.copyfile(tiny_base / "tokenizer.json", tmp_path / "tokenizer.json")
    assert count("finetuned") == 6
    assert count("scratch") is None  # its vocabulary is its own
    assert count("scratch", tiny_base) == 6
    with pytest.raises(ConfigurationError, match=r"a folder with tokenizer\.json"):
        count("linear", linear_model)
    with pytest.raises(ConfigurationError, match="says the longest text"):
        count("linear", tiny_base, max_length=0)


def test_settings_that_are_refused(tmp_path: Path) -> None:
    for changes, message in (
        ({"watch_seconds": -1.0}, "watch_seconds: got -1.0"),
        ({"usd_per_hour": float("nan")}, "usd_per_hour: got nan"),
        ({"threads": 0}, "threads: got 0"),
        ({"grace_seconds": -1}, "grace_seconds: got -1"),
        ({"watch_seconds": 1.0, "digest": "0" * 64}, "zero where digest allows one model"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            ServeConfig(model=tmp_path, **changes)
        assert message in str(refused.value)


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, small_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "model"
    manifest = quantize(tiny_teacher, small_data, folder, QuantizeConfig(precision="fp32", compared_rows=32))
    assert manifest["lost"] == ""
    return folder


@pytest.mark.slow
def test_a_linear_and_an_onnx_model_are_served_without_pytorch(
    linear_model: Path, onnx_model: Path, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """Where none of ``ABSENT`` can be imported; and one is swapped for the other, which has other labels' weights."""
    link = tmp_path / "current"
    link.symlink_to(linear_model)
    url = start_server("--model", str(link), "--name", "shop", command=("-c", WITHOUT)).url
    for folder in (linear_model, onnx_model):
        link.unlink()
        link.symlink_to(folder)
        assert requests.post(f"{url}/v2/repository/models/shop/load", timeout=30).ok
        answer = requests.post(f"{url}/v1/models/shop:predict", json={"instances": ["where is my refund"]}, timeout=30)
        expected = load_predictor(folder).probabilities(["where is my refund"]).max()
        assert answer.json()["predictions"][0]["probability"] == pytest.approx(float(expected), abs=1e-5)
        assert answer.headers["undercut-model-digest"] == artifacts.load(folder, artifacts.MODEL)["digest"]
    own = load_model(onnx_model, threads=1)
    assert own.tokenizer is not None
    tokens = len(own.tokenizer.ids(["where is my refund"])[0])
    assert (
        f'undercut_tokens_total{{model_name="shop"}} {float(tokens)}' in requests.get(f"{url}/metrics", timeout=10).text
    )


@pytest.mark.parametrize(
    ("form", "needs"), [("torch", "torch, transformers"), ("adapter", "torch, transformers, peft")]
)
def test_a_model_that_needs_pytorch_is_refused_where_there_is_none(tmp_path: Path, form: str, needs: str) -> None:
    artifacts.seal(
        tmp_path, artifacts.MODEL, {"format": form, "labels": ["a"], "lost": "", "task": "t", "max_length": 8}
    )
    command = [sys.executable, "-c", WITHOUT, "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"serve: model.format: got '{form}'; allowed: onnx, linear or static where {needs} is not")
