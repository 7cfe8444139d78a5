import pytest
from undercut.errors import ConfigurationError
from undercut.tune.settings import TuneConfig


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("trials", {"trials": 0}),
        ("learning_rate", {"learning_rate": 0.5}),
        ("learning_rate_low", {"learning_rate_low": 0}),
        ("learning_rate_high", {"learning_rate_high": 1}),
        ("epochs", {"epochs_low": 7}),
        ("batch_tokens", {"batch_tokens_high": 1000}),
        ("metric", {"metric": "f1"}),
        ("pruner", {"pruner": "median"}),
        ("class_weights", {"class_weights": "some"}),
        ("reduction_factor", {"reduction_factor": 1}),
        ("train_rows", {"train_rows": -1}),
        ("max_seconds", {"max_seconds": -1}),
        ("usd_per_hour", {"budget_usd": 1}),
    ],
)
def test_a_wrong_setting_is_refused(field: str, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: got"):
        TuneConfig(**settings)  # type: ignore[arg-type]


def test_time_and_money_together() -> None:
    assert TuneConfig().allowance_seconds == 0
    assert TuneConfig(max_seconds=60, budget_usd=0.01, usd_per_hour=1.8).allowance_seconds == pytest.approx(20)
    assert TuneConfig(max_seconds=10, budget_usd=0.01, usd_per_hour=1.8).allowance_seconds == 10
