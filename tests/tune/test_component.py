"""tune and finetune in a pipeline: what one finds is what the other trains with."""

from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts


@pytest.mark.slow
def test_what_tune_finds_finetune_takes(small_data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    from kfp import dsl, local
    from undercut.finetune.component import finetune
    from undercut.tune.component import tune

    @dsl.pipeline(name="tuned")
    def tuned(uri: str, base: str) -> None:
        data = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset).output
        fixed = {"epochs": 3, "max_length": 32, "refit": False}
        best = tune(data=data, base_model=base, settings=settings | {"trials": 2}, finetune_settings=fixed)
        finetune(data=data, base_model=base, epochs=1, refit=False, hyperparameters=best.outputs["Output"])

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    tuned(uri=str(small_data), base=settings["base_model"])
    (tuning,) = (tmp_path / "root").glob("*/tune/tuning")
    (model,) = (tmp_path / "root").glob("*/finetune/model")
    found = artifacts.verify(tuning, artifacts.TUNING)
    trained = artifacts.verify(model, artifacts.MODEL)
    assert len(found["trials"]) == 2
    assert [entry["step"] for entry in found["ledger"]] == ["tune"]
    assert found["defaults"]["epochs"] == found["trials"][0]["parameters"]["epochs"] == 3
    assert found["hyperparameters"]["epochs"] >= 2
    assert {name: trained["parameters"][name] for name in found["hyperparameters"]} == found["hyperparameters"]
