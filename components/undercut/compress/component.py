"""KFP face of compress."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def compress(
    teacher: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    scratch: dsl.Input[dsl.Model] = None,
    structure: str = "finetuned",
    seed: int = 0,
):
    """Make one structure from the fine-tuned model: itself, or something smaller.

    Args:
        teacher: the fine-tuned model.
        data: dataset folder.
        model: the model of that structure.
        scratch: a language model pretrained from scratch, which the structure scratch starts from.
        structure: finetuned, linear, linear-teacher, distilled-N, pruned-LxPxH, static-D, scratch; a module of undercut.compress, an argument after a dash.
        seed: of whatever is random in making it.
    """
    from pathlib import Path

    from undercut.compress.structures import compress
    from undercut.steps import step

    pretrained = Path(scratch.path) if scratch else None
    inputs = [teacher.path, data.path, *([scratch.path] if scratch else [])]
    with step("compress", structure, inputs=inputs, output=model.path):
        compress(structure, Path(teacher.path), Path(data.path), Path(model.path), seed, pretrained)
