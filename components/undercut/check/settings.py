"""Settings that decide a run's outcome, checked before it starts.

This stage alone looks into others: at the ``settings`` modules of those that train, to refuse on behalf of
them what they would refuse after hours of other work.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from undercut.bar import TRAFFIC, parse_bar
from undercut.candidates import parse_candidates
from undercut.costs import CPU_CORE, available_cores, parse_price_book
from undercut.errors import ConfigurationError
from undercut.hyperparameters import Config, with_hyperparameters

# What a pipeline sets itself, for all stages alike.
TAKEN = ("base_model", "model_name", "usd_per_hour", "seed")


def check_settings(
    bar: Mapping[str, Any],
    candidates: Sequence[object],
    prices: Mapping[str, Any],
    hardware: str,
    traffic: str,
) -> float:
    """Check the settings together.

    Returns:
        What this machine costs, in US dollars an hour: its cores at the price book's price.

    Raises:
        ConfigurationError: the first setting that is wrong.
    """
    parse_bar(bar)
    parse_candidates(candidates)
    book = parse_price_book(prices)
    book.usd_per_hour(hardware)
    if traffic not in TRAFFIC:
        raise ConfigurationError("traffic", traffic, f"one of {', '.join(TRAFFIC)}")
    return available_cores() * book.usd_per_hour(CPU_CORE)


def check_loop(candidates: Sequence[object]) -> None:
    """Check that a pipeline's loop can take the candidates: KFP reads two entries of each.

    ``undercut`` makes mappings of names; what is typed into Kubeflow's form comes as it is, and the loop would
    fail on it only after all that is trained before.

    Raises:
        ConfigurationError: the first one that is no mapping of structure and precision.
    """
    for number, item in enumerate(candidates):
        if not isinstance(item, Mapping) or set(item) != {"structure", "precision"}:
            allowed = 'a mapping, such as {"structure": "finetuned", "precision": "int8"}'
            raise ConfigurationError(f"candidates[{number}]", item, allowed, "Names are for recipes and flags")


def check_stages(
    pretrain: Mapping[str, Any],
    transfer: Mapping[str, Any],
    tune: Mapping[str, Any],
    finetune: Mapping[str, Any],
    usd_per_hour: float,
) -> None:
    """Check the settings of the stages that train, and that they go together.

    Args:
        pretrain: entries that stand in for arguments of pretrain.
        transfer: the same of transfer.
        tune: the same of tune.
        finetune: the same of finetune.
        usd_per_hour: this machine's price.

    Raises:
        ConfigurationError: the first setting that is wrong, such as ``finetune_settings.epochs``.
    """
    from undercut.finetune.settings import FinetuneConfig
    from undercut.pretrain.settings import PretrainConfig
    from undercut.transfer.settings import TransferConfig
    from undercut.tune.settings import TuneConfig, with_finetune_settings

    _check("pretrain_settings", PretrainConfig(usd_per_hour=usd_per_hour), pretrain)
    transferring = _check("transfer_settings", TransferConfig(usd_per_hour=usd_per_hour), transfer)
    searching = _check("tune_settings", TuneConfig(usd_per_hour=usd_per_hour), tune)
    method = _check("finetune_settings", FinetuneConfig(usd_per_hour=usd_per_hour), finetune).method
    try:
        with_finetune_settings(searching, finetune)
    except ConfigurationError as error:  # each alone is allowed, the two together are not
        raise error.within("tune_settings") from error
    if method == "prefix" and transferring.epochs:
        remedy = "A prefix is loaded onto its base again and again: it needs one that a URI leads to"
        raise ConfigurationError("finetune_settings.method", method, "another method after a transfer", remedy)


def check_monitor(monitor: Mapping[str, Any], model_name: str) -> None:
    """Check the settings of monitor.

    Args:
        monitor: entries that stand in for its arguments.
        model_name: the champion's name in the registry.

    Raises:
        ConfigurationError: the first setting that is wrong, such as ``monitor_settings.significance``.
    """
    from undercut.monitor.settings import MonitorConfig

    _check("monitor_settings", MonitorConfig(model_name=model_name), monitor)


def _check(name: str, config: Config, entries: Mapping[str, Any]) -> Config:
    for taken in TAKEN:
        if taken in entries:
            raise ConfigurationError(f"{name}.{taken}", entries[taken], f"{taken} of the whole run")
    try:
        return with_hyperparameters(config, entries, name)
    except ConfigurationError as error:
        raise error if error.field.startswith(f"{name}.") else error.within(name) from error
