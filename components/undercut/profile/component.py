"""KFP face of profile."""

from typing import List

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def profile(
    models: dsl.Input[List[dsl.Model]],
    teacher: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    profiles: dsl.Output[dsl.Artifact],
    hardware: str = "cpu-core",
    rounds: int = 5,
    seconds_per_cell: float = 0.4,
    seed: int = 0,
):
    """Measure speed, latency and memory of all candidates side by side, on one thread of this node.

    Args:
        models: the candidates.
        teacher: the fine-tuned model, whose tokenizer counts the tokens of all.
        data: dataset folder; its test texts are the requests.
        profiles: the figures.
        hardware: the price book's name of the device that this node stands for.
        rounds: rounds of measurement; the median counts.
        seconds_per_cell: seconds that a candidate works in one round at one batch size.
        seed: of the order of requests.
    """
    from pathlib import Path

    from undercut.profile.measure import ProfileConfig, profile
    from undercut.steps import step

    paths = [model.path for model in models]
    with step("profile", inputs=[*paths, teacher.path, data.path], output=profiles.path):
        config = ProfileConfig(hardware=hardware, rounds=rounds, seconds_per_cell=seconds_per_cell, seed=seed)
        profile([Path(p) for p in paths], Path(teacher.path), Path(data.path), Path(profiles.path), config)
