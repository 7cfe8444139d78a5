"""KFP face of remember."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def remember(data: dsl.Input[dsl.Dataset], selection: dsl.Input[dsl.Artifact], model_name: str):
    """Note in the registry that a dataset gave no model that passes, so that a schedule does not try it again.

    Args:
        data: the dataset.
        selection: the selection in which no candidate passed.
        model_name: the name in the registry.
    """
    from pathlib import Path

    from undercut.remember.missed import remember
    from undercut.steps import step

    with step("remember", model_name, inputs=[data.path, selection.path]):
        remember(Path(data.path), Path(selection.path), model_name)
