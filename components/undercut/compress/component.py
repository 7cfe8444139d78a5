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
    resources: dict = {},  # noqa: B006
):
    """Make one structure from the fine-tuned model: itself, or something smaller.

    Args:
        teacher: the fine-tuned model.
        data: dataset folder.
        model: the model of that structure.
        scratch: a language model pretrained from scratch, which the structure scratch starts from.
        structure: finetuned, linear, linear-teacher, distilled-N, pruned-LxPxH, static-D, scratch; a module of undercut.compress, an argument after a dash.
        seed: of whatever is random in making it.
        resources: what a node may reserve, and how many: accelerator, accelerator_count, cpu, memory, nodes, processes.
    """
    from undercut.launch import launch
    from undercut.steps import step

    inputs = {"teacher": teacher, "data": data, "scratch": scratch}
    paths = [artifact.path for artifact in inputs.values() if artifact]
    with step("compress", structure, inputs=paths, output=model.path):
        launch("compress", resources, inputs, {"output": model}, structure=structure, seed=seed)
