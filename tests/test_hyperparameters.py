from dataclasses import fields
from typing import Any

import pytest
from undercut.adapter_settings import LEARNING_RATES
from undercut.errors import ConfigurationError
from undercut.finetune.settings import FinetuneConfig
from undercut.hyperparameters import from_arguments, with_hyperparameters


def test_whole_floats_become_ints_where_the_field_is_one() -> None:
    config = with_hyperparameters(FinetuneConfig(seed=3), {"epochs": 4.0, "learning_rate": 0.001, "refit": False})
    assert config == FinetuneConfig(seed=3, epochs=4, learning_rate=1e-3, refit=False)
    assert isinstance(config.epochs, int)


def test_nothing_changes_nothing() -> None:
    assert with_hyperparameters(FinetuneConfig(), {}) == FinetuneConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [("epoch", 4), ("epochs", 4.5), ("epochs", True), ("epochs", "4"), ("refit", 1.0), ("base_model", 3)],
)
def test_a_wrong_one_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^hyperparameters.{name}: got"):
        with_hyperparameters(FinetuneConfig(), {name: value})


def test_values_are_checked_by_the_config() -> None:
    with pytest.raises(ConfigurationError, match=r"^epochs: got 0"):
        with_hyperparameters(FinetuneConfig(), {"epochs": 0.0})


def test_arguments_then_settings_then_what_was_found() -> None:
    arguments = {f.name: f.default for f in fields(FinetuneConfig)} | {"data": "beside", "seed": 3}
    settings, found = {"method": "lora", "epochs": 4.0}, {"epochs": 2.0}
    config = from_arguments(FinetuneConfig, arguments, settings=settings, hyperparameters=found)
    assert config == FinetuneConfig(method="lora", epochs=2, seed=3)
    assert config.learning_rate == LEARNING_RATES["lora"], "the method's own, not that of the default method"
    with pytest.raises(ConfigurationError, match=r"^settings.epoch: got 1; allowed: .* Did you mean epochs"):
        from_arguments(FinetuneConfig, arguments, settings={"epoch": 1})
