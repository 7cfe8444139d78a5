import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from undercut.tuning_figures import best_so_far, tuning_figures


def trial(number: int, value: float | None, learning_rate: float) -> dict[str, Any]:
    curve = [{"epoch": e, "validation_accuracy": 0.3 * e, "validation_loss": 1.0 / e} for e in (1, 2)]
    return {
        "number": number,
        "state": "pruned" if value is None else "complete",
        "parameters": {"learning_rate": learning_rate, "epochs": 2, "batch_tokens": 256 * (number + 1)},
        "value": value,
        "curve": curve[: 1 if value is None else 2],
    }


@pytest.fixture
def manifest() -> dict[str, Any]:
    """A search of four trials as ``tuning.json`` holds it."""
    return {
        "metric": "accuracy",
        "defaults": {"learning_rate": 1e-4, "epochs": 2, "batch_tokens": 256},
        "default_trial": 0,
        "best_trial": 3,
        "trials": [trial(0, 0.6, 1e-4), trial(1, None, 1e-5), trial(2, 0.5, 3e-4), trial(3, 0.8, 1e-3)],
        "importances": {"learning_rate": 0.7, "epochs": 0.2, "batch_tokens": 0.1},
    }


def test_four_figures_that_do_not_change(manifest: dict[str, Any]) -> None:
    figures = tuning_figures(manifest)
    assert list(figures) == ["history", "slices", "curves", "importances"]
    assert figures == tuning_figures(manifest)
    for text in figures.values():
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert all(word in figures["history"] for word in ("best so far", "stopped early", "the defaults"))
    assert all(name in figures["slices"] for name in manifest["defaults"])


def test_a_hyperparameter_may_be_a_word(manifest: dict[str, Any]) -> None:
    plain = tuning_figures(manifest)
    manifest["defaults"] = {"method": "full", **manifest["defaults"]}
    for t, method in zip(manifest["trials"], ["full", "prefix", "lora", "full"], strict=True):
        t["parameters"]["method"] = method
    manifest["importances"]["method"] = 0.0
    figures = tuning_figures(manifest)
    assert ">method<" in figures["slices"]
    assert all(f">{word}<" in figures["slices"] for word in ("full", "lora"))
    assert ">prefix<" not in figures["slices"], "that trial was stopped early"
    assert ">method<" in figures["importances"]
    assert figures["history"] == plain["history"]


def test_what_has_nothing_to_show_is_left_out(manifest: dict[str, Any]) -> None:
    assert tuning_figures(manifest | {"trials": [], "importances": {}}) == {}
    pruned = tuning_figures(manifest | {"trials": [trial(0, None, 1e-4)], "importances": {}})
    assert list(pruned) == ["curves"]


def test_the_best_so_far_follows_the_metric() -> None:
    finished = [{"value": v} for v in (0.5, 0.4, 0.7, 0.6)]
    assert best_so_far(finished, "accuracy") == [0.5, 0.5, 0.7, 0.7]
    assert best_so_far(finished, "loss") == [0.5, 0.4, 0.4, 0.4]
