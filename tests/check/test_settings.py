import pytest
from undercut.candidates import DEFAULT_CANDIDATES
from undercut.check.settings import check_settings
from undercut.costs import available_cores
from undercut.errors import ConfigurationError

GOOD = {
    "bar": {"metric": "accuracy", "minimum": 0.9, "maximum_drop": 0.01, "maximum_latency_ms": 0, "confidence": 0.95},
    "candidates": DEFAULT_CANDIDATES,
    "prices": {"devices": {"cpu-core": {"usd_per_hour": 0.05}}, "hosted": []},
    "hardware": "cpu-core",
    "traffic": "online",
    "target": "local",
}


def test_good_settings_give_the_price_of_this_machine() -> None:
    assert check_settings(**GOOD) == pytest.approx(available_cores() * 0.05)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bar": {**GOOD["bar"], "minimum": 1.2}}, "bar.minimum"),
        ({"candidates": ["finetuned/int3"]}, "candidates"),
        ({"prices": {"devices": {}}}, "prices.devices"),
        ({"hardware": "nvidia-b300"}, "prices.devices"),
        ({"traffic": "rush-hour"}, "traffic"),
        ({"target": "moon"}, "target"),
    ],
)
def test_a_wrong_setting_is_named(change: dict, field: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_settings(**{**GOOD, **change})
    assert error.value.field.startswith(field)
