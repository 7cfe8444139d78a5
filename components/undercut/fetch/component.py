"""KFP face of fetch."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def fetch(uri: str, data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model]):
    """Take a model that is already fine-tuned: verified by digest, its labels compared with the dataset's.

    Args:
        uri: the folder that finetune wrote: a path or a file://, pkg://, https://, s3:// or hf:// URI.
        data: dataset folder that it is to be compressed and measured on.
        model: the fine-tuned model, the teacher of all others.
    """
    from pathlib import Path

    from undercut.fetch.classifier import fetch
    from undercut.steps import step

    with step("fetch", inputs=[data.path], output=model.path):
        fetch(uri, Path(data.path), Path(model.path))
