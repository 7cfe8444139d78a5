"""What a search starts from: a base by its address or from an earlier stage, or nothing at all."""

from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.storage import digest
from undercut.tune.search import tune
from undercut.tune.settings import TuneConfig


def test_a_base_without_weights_is_refused(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(ConfigurationError, match=r"base_model: .* config\.json"):
        tune(small_data, tmp_path / "out", TuneConfig(base_model=str(tmp_path / "base")))


def test_no_trials_is_no_search_and_the_base_is_not_looked_at(small_data: Path, tmp_path: Path) -> None:
    config = TuneConfig(trials=0, base_model=str(tmp_path / "nowhere"), train_rows=100)
    assert tune(small_data, tmp_path / "out", config) == {}
    manifest = artifacts.verify(tmp_path / "out", artifacts.TUNING)
    assert (manifest["trials"], manifest["hyperparameters"], manifest["best_trial"]) == ([], {}, None)
    assert manifest["sentence"] == "No search was asked for (trials is 0): fine-tuning keeps its own settings."
    assert (manifest["train_rows"], manifest["validation_rows"], manifest["seconds"]) == (100, 115, 0)
    assert manifest["base_model"] == {"uri": str(tmp_path / "nowhere"), "digest": None}


def made_base(base: Path, folder: Path, **content: str | None) -> Path:
    """A model folder as transfer seals it, its weights those of ``base``."""
    folder.mkdir()
    artifacts.copy_files(base, folder, [p.name for p in base.iterdir()])
    origin = {"uri": "pkg://somewhere/model", "digest": digest(base)}
    artifacts.seal(folder, artifacts.MODEL, {"structure": "transferred", "base_model": origin, "lost": "", **content})
    return folder


@pytest.mark.slow
def test_a_base_that_a_stage_made_stands_before_the_other(
    small_data: Path, tiny_base: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    made = made_base(tiny_base, tmp_path / "made")
    config = TuneConfig(**settings | {"base_model": str(tmp_path / "nowhere"), "trials": 1})
    assert tune(small_data, tmp_path / "out", config, made) == config.defaults
    found = artifacts.verify(tmp_path / "out", artifacts.TUNING)["base_model"]
    expected = artifacts.load(made, artifacts.MODEL)["digest"]
    assert found == {"uri": "pkg://somewhere/model", "digest": expected, "structure": "transferred"}
    tune(small_data, tmp_path / "none", TuneConfig(trials=0), made)
    assert artifacts.load(tmp_path / "none", artifacts.TUNING)["base_model"]["uri"] == "pkg://somewhere/model"


def test_a_prefix_needs_a_base_that_a_uri_leads_to(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    made = made_base(tiny_base, tmp_path / "made")
    with pytest.raises(
        ConfigurationError, match=r"^methods: got 'prefix'; allowed: any other on a base that is transf"
    ):
        tune(small_data, tmp_path / "out", TuneConfig(methods="prefix"), made)
    with pytest.raises(ConfigurationError, match=r"^base: .* it diverged"):
        tune(small_data, tmp_path / "out", TuneConfig(), made_base(tiny_base, tmp_path / "lost", lost="it diverged"))


@pytest.mark.slow
def test_what_does_not_fit_the_base_is_refused_before_the_first_trial(
    small_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    config = TuneConfig(base_model=str(tiny_base), methods="lora,prefix", virtual_tokens=20, max_length=60)
    with pytest.raises(ConfigurationError, match=r"^virtual_tokens: got 20; .* max_length"):
        tune(small_data, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
