"""KFP face of evaluate."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    batch_size: int = 32,
    confidence: float = 0.95,
    robustness_rows: int = 200,
    seed: int = 0,
):
    """Measure a candidate's quality on the test rows, with confidence intervals.

    Args:
        model: the candidate.
        data: dataset folder.
        evaluation: metrics, slices, confusion matrix, mistakes, and every prediction.
        batch_size: rows asked at once; does not change the answers.
        confidence: of the intervals.
        robustness_rows: test rows measured again with typing errors, without capitals and so on; 0 for none.
        seed: of the bootstrap and of the typing errors.
    """
    from pathlib import Path

    from undercut.artifacts import load
    from undercut.candidates import candidate_name
    from undercut.evaluate.measure import EvaluateConfig, evaluate
    from undercut.steps import step

    name = candidate_name(load(Path(model.path), "model.json"))
    with step("evaluate", name, inputs=[model.path, data.path], output=evaluation.path):
        config = EvaluateConfig(
            batch_size=batch_size, confidence=confidence, robustness_rows=robustness_rows, seed=seed
        )
        evaluate(Path(model.path), Path(data.path), Path(evaluation.path), config)
