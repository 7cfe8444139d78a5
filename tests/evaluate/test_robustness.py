import random
from pathlib import Path

import numpy as np
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.evaluate.robustness import NEIGHBOURS, PERTURBATIONS, perturb

TEXT = "Where is my card? It hasn't arrived yet, and I have waited for TEN days."


def test_neighbours_lie_beside_a_key() -> None:
    assert set(NEIGHBOURS["g"]) == set("tyfhvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert all(a in NEIGHBOURS[b] for a, near in NEIGHBOURS.items() for b in near)


def test_noise_is_seeded_and_pinned() -> None:
    found = {name: perturb([TEXT], name, seed=0)[0] for name in PERTURBATIONS}
    assert found == {name: perturb(["other", TEXT], name, seed=0)[1] for name in PERTURBATIONS}
    assert found["upper case"] == TEXT.upper()
    assert found["lower case"] == TEXT.lower()
    assert found["no punctuation"] == "Where is my card It hasnt arrived yet and I have waited for TEN days"
    assert perturb([TEXT], "dropped letters", seed=1) != perturb([TEXT], "dropped letters", seed=0)


def test_three_letters_of_fifty_five_are_mistyped() -> None:
    typed = perturb([TEXT], "neighbouring keys", seed=0)[0]
    changed = [(a, b) for a, b in zip(TEXT, typed, strict=True) if a != b]
    assert len(changed) == 3
    assert all(b.lower() in NEIGHBOURS[a.lower()] for a, b in changed)
    assert len(perturb([TEXT], "dropped letters", seed=0)[0]) == len(TEXT) - 3
    swapped = perturb([TEXT], "swapped letters", seed=0)[0]
    assert sorted(swapped) == sorted(TEXT)
    assert swapped != TEXT


@pytest.mark.parametrize("text", ["", "a", "42", "我的卡在哪里", "I", "...", "aa"])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_odd_texts_go_through(name: str, text: str) -> None:
    assert isinstance(PERTURBATIONS[name](text, random.Random(0)), str)


def test_evaluate_measures_it_on_the_same_rows(linear_model: Path, small_data: Path, tmp_path: Path) -> None:
    manifest = evaluate(linear_model, small_data, tmp_path / "out", EvaluateConfig(robustness_rows=100))
    found = {r["perturbation"]: r for r in manifest["robustness"]}
    # The data are in lower case already, and the model does not see case.
    assert set(found) == {*PERTURBATIONS} - {"lower case"}
    assert found["upper case"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert all(r["n"] == 100 for r in found.values())
    assert found["upper case"]["changed"] == 100
    typos = found["dropped letters"]
    assert typos["difference"]["low"] <= typos["difference"]["value"] <= 0
    clean = typos["accuracy"]["value"] - typos["difference"]["value"]
    assert clean == pytest.approx(found["upper case"]["accuracy"]["value"])
    assert np.isclose(clean, manifest["metrics"]["accuracy"]["value"], atol=0.05)
    again = evaluate(linear_model, small_data, tmp_path / "again", EvaluateConfig(robustness_rows=100))
    assert again["robustness"] == manifest["robustness"]


def test_it_can_be_left_out(linear_model: Path, small_data: Path, tmp_path: Path) -> None:
    manifest = evaluate(linear_model, small_data, tmp_path / "out", EvaluateConfig(robustness_rows=0))
    assert artifacts.verify(tmp_path / "out", artifacts.EVALUATION)["robustness"] == []
    assert manifest["languages"] is None
    with pytest.raises(ConfigurationError, match="robustness_rows: got 501"):
        EvaluateConfig(robustness_rows=501)
