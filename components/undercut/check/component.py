"""KFP face of check."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check(
    bar: dict,
    candidates: list,
    prices: dict,
    hardware: str,
    traffic: str,
    pretrain_settings: dict = {},  # noqa: B006
    transfer_settings: dict = {},  # noqa: B006
    tune_settings: dict = {},  # noqa: B006
    finetune_settings: dict = {},  # noqa: B006
    monitor_settings: dict = {},  # noqa: B006
    deploy_settings: dict = {},  # noqa: B006
    model_name: str = "classifier",
) -> float:
    """Refuse a wrong bar, candidate list, price book or setting of a stage before anything is spent.

    Args:
        bar: what a model must reach: metric, minimum, maximum_drop, maximum_latency_ms, confidence.
        candidates: list of mappings, each with structure and precision.
        prices: the price book: devices and hosted prices.
        hardware: the price book's device that candidates are priced on.
        traffic: online (batch 1) or batch (32).
        pretrain_settings: arguments of pretrain.
        transfer_settings: arguments of transfer.
        tune_settings: arguments of tune.
        finetune_settings: arguments of finetune.
        monitor_settings: arguments of monitor.
        deploy_settings: arguments of deploy.
        model_name: the name in the registry.

    Returns:
        The price of this machine in US dollars an hour, which stops a training at a sum of money.
    """
    from undercut.check.settings import check_loop, check_monitor, check_settings, check_stages
    from undercut.deploy.settings import check_deploy_settings
    from undercut.steps import step

    with step("check"):
        usd_per_hour = check_settings(bar, candidates, prices, hardware, traffic)
        check_loop(candidates)
        check_stages(pretrain_settings, transfer_settings, tune_settings, finetune_settings, usd_per_hour)
        check_monitor(monitor_settings, model_name)
        check_deploy_settings(model_name, deploy_settings)
        return usd_per_hour
