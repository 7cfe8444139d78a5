"""KFP face of deploy."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def deploy(
    chosen: dsl.Input[dsl.Model],
    selection: dsl.Input[dsl.Artifact],
    data: dsl.Input[dsl.Dataset],
    deployment: dsl.Output[dsl.Artifact],
    model_name: str,
    target: str = "local",
    margin: float = 0.01,
    minimum_saving: float = 0.05,
    seed: int = 0,
    teacher: dsl.Input[dsl.Model] = None,
):
    """Register the chosen model, test it over HTTP, and make it champion if it is better or cheaper.

    Args:
        chosen: The selection's model.
        selection: Why it was chosen, with every candidate's figures.
        data: The dataset; its test rows decide between challenger and champion.
        deployment: Receives what was done, and why.
        model_name: Name in the model registry and in the endpoints' paths.
        target: Where to deploy; local is a tested entry in the registry of this machine's MLflow.
        margin: Accuracy that a cheaper challenger may lose, lower end of the interval.
        minimum_saving: Share by which a challenger must be cheaper to count as cheaper.
        seed: Seed of the bootstrap.
        teacher: The fine-tuned model; kept beside the registered version, so that a later training can go on from it.
    """
    from pathlib import Path

    from undercut.deploy.deployment import deploy
    from undercut.deploy.settings import DeployConfig
    from undercut.steps import step

    kept = Path(teacher.path) if teacher else None
    with step("deploy", model_name, inputs=[chosen.path, selection.path, data.path], output=deployment.path):
        config = DeployConfig(
            model_name=model_name, target=target, margin=margin, minimum_saving=minimum_saving, seed=seed
        )
        deploy(Path(chosen.path), Path(selection.path), Path(data.path), Path(deployment.path), config, kept)
