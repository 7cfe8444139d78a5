"""KFP face of check."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check(bar: dict, candidates: list, prices: dict, hardware: str, traffic: str, target: str) -> float:
    """Refuse a wrong bar, candidate list or price book before anything is spent.

    Args:
        bar: what a model must reach: metric, minimum, maximum_drop, maximum_latency_ms, confidence.
        candidates: list of structure and precision.
        prices: the price book: devices and hosted prices.
        hardware: the price book's device that candidates are priced on.
        traffic: online (batch 1) or batch (32).
        target: where the chosen model is deployed.

    Returns:
        The price of this machine in US dollars an hour, which stops a training at a sum of money.
    """
    from undercut.check.settings import check_settings
    from undercut.steps import step

    with step("check"):
        return check_settings(bar, candidates, prices, hardware, traffic, target)
