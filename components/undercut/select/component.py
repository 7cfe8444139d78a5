"""KFP face of select."""

from typing import List

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def select(
    models: dsl.Input[List[dsl.Model]],
    evaluations: dsl.Input[List[dsl.Artifact]],
    profiles: dsl.Input[dsl.Artifact],
    bar: dict,
    traffic: str,
    prices: dict,
    hardware: str,
    chosen: dsl.Output[dsl.Model],
    selection: dsl.Output[dsl.Artifact],
) -> bool:
    """Choose the cheapest candidate that clears the bar, and say why every other lost.

    Args:
        models: the candidates.
        evaluations: their evaluations.
        profiles: their speed, latency and memory.
        bar: what a model must reach.
        traffic: online (batch 1) or batch (32).
        prices: the price book.
        hardware: the price book's device that candidates are priced on.
        chosen: the chosen model.
        selection: every candidate's figures, price, verdict and reason; the ledger.

    Returns:
        Whether any candidate passed.
    """
    from pathlib import Path

    from undercut.select.selection import select
    from undercut.steps import step

    model_paths, others = [Path(m.path) for m in models], [Path(e.path) for e in evaluations]
    inputs = [str(p) for p in (*model_paths, *others, profiles.path)]
    with step("select", inputs=inputs, output=selection.path):
        # fmt: off
        return select(model_paths, others, Path(profiles.path), Path(chosen.path), Path(selection.path),
                      bar, traffic, prices, hardware)
        # fmt: on
