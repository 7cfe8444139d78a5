import pytest
from undercut.candidates import DEFAULT_CANDIDATES
from undercut.check.component import check
from undercut.check.settings import check_monitor, check_settings, check_stages
from undercut.costs import available_cores
from undercut.errors import ConfigurationError

GOOD = {
    "bar": {"metric": "accuracy", "minimum": 0.9, "maximum_drop": 0.01, "maximum_latency_ms": 0, "confidence": 0.95},
    "candidates": DEFAULT_CANDIDATES,
    "prices": {"devices": {"cpu-core": {"usd_per_hour": 0.05}}, "hosted": []},
    "hardware": "cpu-core",
    "traffic": "online",
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
    ],
)
def test_a_wrong_setting_is_named(change: dict, field: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_settings(**{**GOOD, **change})
    assert error.value.field.startswith(field)


@pytest.mark.parametrize("item", ["finetuned/int8", {"structure": "linear"}])
def test_candidates_that_the_loop_cannot_take_are_refused_by_the_first_steps(item: object) -> None:
    """As they come from Kubeflow's form: KFP selects two entries of each, after all that is trained before."""
    assert check.python_func(**GOOD) == pytest.approx(available_cores() * 0.05)
    with pytest.raises(SystemExit) as ended:
        check.python_func(**{**GOOD, "candidates": [DEFAULT_CANDIDATES[0], item]})
    assert ended.value.code == 2
    assert isinstance(ended.value.__cause__, ConfigurationError)
    assert ended.value.__cause__.field == "candidates[1]"


STAGES = {"pretrain": {}, "transfer": {}, "tune": {}, "finetune": {}}


def test_good_settings_of_stages() -> None:
    check_stages(**STAGES, usd_per_hour=0.1)
    finetune = {"epochs": 3.0, "budget_usd": 0.5, "method": "prefix"}
    check_stages(**{**STAGES, "transfer": {"epochs": 0.0}, "finetune": finetune}, usd_per_hour=0.1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pretrain": {"size": "gigantic"}}, "pretrain_settings.size"),
        ({"transfer": {"frozen_layers": -1}}, "transfer_settings.frozen_layers"),
        ({"tune": {"pruner": "chainsaw"}}, "tune_settings.pruner"),
        ({"tune": {"trails": 3}}, "tune_settings.trails"),
        ({"finetune": {"epochs": 2.5}}, "finetune_settings.epochs"),
        ({"finetune": {"seed": 2}}, "finetune_settings.seed"),
        ({"transfer": {"epochs": 1}, "finetune": {"method": "prefix"}}, "finetune_settings.method"),
        ({"tune": {"methods": "lora"}, "finetune": {"train_embeddings": True}}, "tune_settings.train_embeddings"),
        ({"pretrain": {"epochs": 1, "sequence_length": 4}}, "pretrain_settings.sequence_length"),
    ],
)
def test_a_wrong_setting_of_a_stage_is_named(change: dict, field: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_stages(**{**STAGES, **change}, usd_per_hour=0.1)
    assert error.value.field == field


def test_a_wrong_setting_of_monitor_is_named() -> None:
    check_monitor({"minimum_new_rows": 50, "significance": 0.05}, "shop")
    for entries, field in (
        ({"significance": 2}, "significance"),
        ({"model_name": "x"}, "model_name"),
        ({"row": 9}, "row"),
    ):
        with pytest.raises(ConfigurationError) as error:
            check_monitor(entries, "shop")
        assert error.value.field == f"monitor_settings.{field}"
