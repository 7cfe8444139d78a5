import pytest
from undercut.adapter_settings import LEARNING_RATES, METHODS
from undercut.errors import ConfigurationError
from undercut.tune.settings import TuneConfig, with_finetune_settings


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("trials", {"trials": -1}),
        ("method", {"method": "qlora"}),
        ("methods", {"methods": "lora,qlora"}),
        ("adapter_rank", {"methods": "lora", "adapter_rank": 0}),
        ("train_embeddings", {"methods": "lora", "train_embeddings": True}),
        ("learning_rate", {"learning_rate": -1}),
        ("learning_rate", {"learning_rate": 3e-3, "method": "prefix", "learning_rate_low": 1e-4}),
        ("learning_rate_high", {"learning_rate_high": 0.02, "methods": "prefix"}),
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


def test_full_fine_tuning_alone_is_searched_unless_more_is_asked_for() -> None:
    assert TuneConfig().defaults == {"learning_rate": 3e-4, "epochs": 6, "batch_tokens": 1024}
    assert TuneConfig().searched_methods == ("full",)
    more = TuneConfig(methods="lora, full")
    assert more.searched_methods == ("full", "lora")
    assert more.defaults == {"method": "full", "learning_rate": 3e-4, "epochs": 6, "batch_tokens": 1024}
    assert TuneConfig(method="lora").searched_methods == ("lora",)


@pytest.mark.parametrize("method", METHODS)
def test_each_methods_rates_lie_alike_around_its_own(method: str) -> None:
    config = TuneConfig(method=method)
    low, high = config.bounds("learning_rate", method)
    assert config.defaults["learning_rate"] == LEARNING_RATES[method]
    assert LEARNING_RATES[method] / low == pytest.approx(10)
    assert high / LEARNING_RATES[method] == pytest.approx(10)


def test_a_users_settings_of_finetune_are_the_defaults_to_beat() -> None:
    settings = {
        "epochs": 14.0,
        "batch_tokens": 128,
        "max_length": 64,
        "refit": False,
        "budget_usd": 3,
        "learning_rate": 0,
    }
    config = with_finetune_settings(TuneConfig(epochs=5, max_seconds=60), settings)
    assert config.defaults == {"learning_rate": 3e-4, "epochs": 14, "batch_tokens": 128}
    assert (config.epochs_low, config.epochs_high) == (2, 14)
    assert (config.batch_tokens_low, config.batch_tokens_high) == (128, 4096)
    assert (config.max_length, config.max_seconds, config.budget_usd) == (64, 60, 0)
    assert isinstance(config.epochs_high, int)
    assert with_finetune_settings(config, {}) == config


def test_a_users_method_brings_its_own_rate() -> None:
    config = with_finetune_settings(TuneConfig(), {"method": "lora", "adapter_rank": 4.0})
    assert config.defaults == {"method": "lora", "learning_rate": 5e-3, "epochs": 6, "batch_tokens": 1024}
    assert config.adapter("lora").rank == 4
    both = with_finetune_settings(TuneConfig(methods="full"), {"method": "lora", "learning_rate": 0.2})
    assert both.searched_methods == ("full", "lora")
    assert both.bounds("learning_rate", "lora") == (pytest.approx(5e-4), pytest.approx(0.2))
    assert with_finetune_settings(both, {}) == both


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"method": "qlora"}, "method"),
        ({"epochs": "many"}, "finetune_settings.epochs"),
        ({"epochs": 2.5}, "finetune_settings.epochs"),
        ({"learning_rate": 2}, "learning_rate"),
        ({"learning_rate": "fast"}, "finetune_settings.learning_rate"),
        ({"class_weights": "some"}, "class_weights"),
    ],
)
def test_a_wrong_setting_of_finetune_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        with_finetune_settings(TuneConfig(), settings)
    assert error.value.field == field
