import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.finetune.settings import FinetuneConfig
from undercut.hyperparameters import with_hyperparameters
from undercut.tune.search import study_name, tune
from undercut.tune.settings import TuneConfig

from tests.kills import kill_when

WHAT_DECIDES = ("number", "state", "parameters", "value", "loss", "curve", "stopped_by")

TUNE = """
import json, sys
from pathlib import Path
from undercut.tune.search import tune
from undercut.tune.settings import TuneConfig
data, output, settings = sys.argv[1:]
tune(Path(data), Path(output), TuneConfig(**json.loads(settings)))
"""


def start(
    data: Path, output: Path, settings: dict[str, Any], code: str = TUNE, **environment: str
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", code, str(data), str(output), json.dumps(settings)]
    return subprocess.Popen(command, env={**os.environ, **environment})


def decided(manifest: artifacts.Manifest) -> list[dict[str, Any]]:
    """What must be the same from run to run: all but the times."""
    return [{k: t[k] for k in WHAT_DECIDES} for t in manifest["trials"]]


@pytest.fixture(scope="module")
def found(small_data: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> artifacts.Manifest:
    """A search of four trials in a workspace of its own."""
    folder = tmp_path_factory.mktemp("search")
    assert start(small_data, folder / "out", settings, UNDERCUT_HOME=str(folder / "home")).wait() == 0
    return artifacts.verify(folder / "out", artifacts.TUNING)


@pytest.mark.slow
def test_it_beats_the_defaults_and_says_what_was_bought(found: artifacts.Manifest, small_data: Path) -> None:
    trials = found["trials"]
    default, best = (trials[found[name]] for name in ("default_trial", "best_trial"))
    assert [t["number"] for t in trials] == [0, 1, 2, 3]
    assert default["number"] == 0
    assert default["parameters"] == found["defaults"] == {"learning_rate": 1e-5, "epochs": 2, "batch_tokens": 256}
    assert found["hyperparameters"] == best["parameters"] != found["defaults"]
    assert best["accuracy"] == max(t["accuracy"] for t in trials if t["state"] == "complete")
    gain = found["gain"]
    assert gain["value"] == pytest.approx(best["accuracy"] - default["accuracy"])
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["n"] == found["validation_rows"] == 115
    assert found["train_rows"] == 100
    assert found["stopped_by"] == "trials"
    assert found["cost_usd"] == pytest.approx(found["seconds"] / 36000)
    assert found["study"]["storage"] == "sqlite"
    assert found["dataset"] == artifacts.load(small_data, artifacts.DATASET)["digest"]
    assert f"{best['accuracy']:.3f} with trial {best['number'] + 1}" in found["sentence"]
    assert all(len(t["curve"]) == t["epochs"] <= t["parameters"]["epochs"] for t in trials)


@pytest.mark.slow
def test_finetune_takes_them_as_floats(found: artifacts.Manifest) -> None:
    floats = {name: float(value) for name, value in found["hyperparameters"].items()}
    config = with_hyperparameters(FinetuneConfig(), floats)
    assert {name: getattr(config, name) for name in floats} == found["hyperparameters"]
    assert isinstance(config.epochs, int)


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(
    found: artifacts.Manifest, small_data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Killed in the middle of the third trial: it is tried again, and all ends as without the kill."""
    events = tmp_path / "events.jsonl"
    environment = {"UNDERCUT_EVENTS": str(events)}
    settings = settings | {"checkpoint_seconds": 0.001}
    victim = start(small_data, tmp_path / "out", settings, **environment)
    kill_when(victim, events, "trial-2: epoch 1, loss", 3)
    assert start(small_data, tmp_path / "out", settings, **environment).wait() == 0
    manifest = artifacts.verify(tmp_path / "out", artifacts.TUNING)
    states = [(t["number"], t["state"], t["retry_of"]) for t in manifest["trials"]]
    assert states[2] == (2, "failed", None)
    assert states[3][0::2] == (3, 2)
    assert "resumed at step" in events.read_text()
    kept = [t for t in decided(manifest) if t["state"] != "failed"]
    assert [t | {"number": i} for i, t in enumerate(kept)] == decided(found)


@pytest.mark.slow
def test_more_trials_extend_a_search(
    found: artifacts.Manifest, small_data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    for trials in (1, 3):
        # In a process of its own, as the other search: threads that earlier tests have set change the last bits.
        assert start(small_data, tmp_path / str(trials), settings | {"trials": trials}).wait() == 0
    one, three = (artifacts.verify(tmp_path / n, artifacts.TUNING) for n in "13")
    assert one["hyperparameters"] == one["defaults"]
    assert one["sentence"].endswith(
        f"nothing beats the defaults (validation accuracy {one['trials'][0]['value']:.3f})."
    )
    assert one["trials"][0] == three["trials"][0]
    assert decided(three) == decided(found)[:3]


@pytest.mark.slow
def test_money_ends_it_and_the_defaults_are_left(small_data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    config = TuneConfig(**settings | {"budget_usd": 1e-6, "max_seconds": 3600})
    assert tune(small_data, tmp_path / "out", config) == config.defaults
    manifest = artifacts.verify(tmp_path / "out", artifacts.TUNING)
    assert manifest["stopped_by"] == "budget_usd"
    assert [(t["state"], t["stopped_by"]) for t in manifest["trials"]] == [("out of time", "max_seconds")]
    assert (manifest["best_trial"], manifest["gain"]) == (None, None)
    assert "too little for the defaults to finish" in manifest["sentence"]
    more = TuneConfig(**settings | {"budget_usd": 1, "max_seconds": 3600, "trials": 1})
    assert tune(small_data, tmp_path / "more", more) == config.defaults
    again = artifacts.verify(tmp_path / "more", artifacts.TUNING)
    assert [(t["state"], t["retry_of"]) for t in again["trials"]] == [("out of time", None), ("complete", 0)]
    assert again["default_trial"] == 1


def test_a_study_belongs_to_its_data_base_and_settings() -> None:
    config = TuneConfig()
    name = study_name("a" * 64, "b" * 64, config)
    others = [
        study_name("c" * 64, "b" * 64, config),
        study_name("a" * 64, "c" * 64, config),
        study_name("a" * 64, "b" * 64, TuneConfig(seed=1)),
        study_name("a" * 64, "b" * 64, TuneConfig(metric="loss")),
        study_name("a" * 64, "b" * 64, TuneConfig(train_rows=10)),
        study_name("a" * 64, "b" * 64, TuneConfig(methods="lora")),
    ]
    assert len({name, *others}) == 7
    assert study_name("a" * 64, "b" * 64, TuneConfig(trials=50, max_seconds=9, study_url="postgresql://h/d")) == name


METHODS = {
    "methods": "lora,adalora,prefix",
    "train_embeddings": False,
    "max_length": 32,
    "seed": 8,
    "trials": 5,
    "learning_rate_high": 5e-3,
}


@pytest.fixture(scope="module")
def several(small_data: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> artifacts.Manifest:
    """A search of five trials over four methods."""
    folder = tmp_path_factory.mktemp("methods")
    assert start(small_data, folder / "out", settings | METHODS, UNDERCUT_HOME=str(folder / "home")).wait() == 0
    return artifacts.verify(folder / "out", artifacts.TUNING)


@pytest.mark.slow
def test_adapters_are_tried_and_finetune_takes_the_method(several: artifacts.Manifest) -> None:
    tried = [t["parameters"]["method"] for t in several["trials"]]
    assert tried[0] == several["defaults"]["method"] == "full"
    assert {"lora", "adalora", "prefix"} < set(tried)
    for t in several["trials"]:
        low, high = several["learning_rate_ranges"][t["parameters"]["method"]]
        assert low <= t["parameters"]["learning_rate"] <= high
        assert 1 <= len(t["curve"]) <= t["parameters"]["epochs"]
    # The same head on the same base: what differs after an epoch is what was trained.
    assert len({t["curve"][0]["validation_loss"] for t in several["trials"]}) == 5
    best = several["trials"][several["best_trial"]]
    assert several["hyperparameters"] == best["parameters"]
    taken = with_hyperparameters(FinetuneConfig(), several["hyperparameters"])
    assert taken.method == best["parameters"]["method"]


@pytest.mark.slow
def test_a_killed_search_over_methods_goes_on_where_it_was(
    several: artifacts.Manifest, small_data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Killed in the middle of AdaLoRA, whose ranks and averages are part of the checkpoint."""
    number = next(t["number"] for t in several["trials"] if t["parameters"]["method"] == "adalora")
    events = tmp_path / "events.jsonl"
    settings = settings | METHODS | {"checkpoint_seconds": 0.001}
    victim = start(small_data, tmp_path / "out", settings, UNDERCUT_EVENTS=str(events))
    kill_when(victim, events, f"trial-{number}: epoch 1, loss", 3)
    assert start(small_data, tmp_path / "out", settings, UNDERCUT_EVENTS=str(events)).wait() == 0
    manifest = artifacts.verify(tmp_path / "out", artifacts.TUNING)
    assert [t["number"] for t in manifest["trials"] if t["state"] == "failed"] == [number]
    assert "resumed at step" in events.read_text()
    kept = [t for t in decided(manifest) if t["state"] != "failed"]
    assert [t | {"number": i} for i, t in enumerate(kept)] == decided(several)
