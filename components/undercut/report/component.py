"""KFP face of report."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def report(
    data: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    teacher: dsl.Input[dsl.Model] = None,
    profiles: dsl.Input[dsl.Artifact] = None,
    selection: dsl.Input[dsl.Artifact] = None,
    deployment: dsl.Input[dsl.Artifact] = None,
    base: dsl.Input[dsl.Model] = None,
    scratch: dsl.Input[dsl.Model] = None,
    tuning: dsl.Input[dsl.Artifact] = None,
    monitoring: dsl.Input[dsl.Artifact] = None,
):
    """Write the run's report: one HTML page that needs nothing else.

    Args:
        data: dataset folder.
        page: the report.
        teacher: the fine-tuned model, for its training curve; left out, like the next two, if nothing was trained.
        profiles: the candidates' speed, latency and memory.
        selection: the choice, with every candidate's model.json and metrics.json.
        deployment: what was deployed; left out if nothing was.
        base: the base adapted to the domain, and what that bought; left out if it was not.
        scratch: the language model pretrained from scratch; left out if there is none.
        tuning: the search for hyperparameters; left out if there was none.
        monitoring: why it was trained, or why it was not; left out if nobody asked.
    """
    from pathlib import Path

    from undercut.report.render import write_page
    from undercut.steps import step

    with step("report", output=page.path):
        # fmt: off
        given = {"data": data, "teacher": teacher, "profiles": profiles, "selection": selection, "base": base,
                 "deployment": deployment, "scratch": scratch, "tuning": tuning, "monitoring": monitoring}
        # fmt: on
        write_page({name: Path(artifact.path) for name, artifact in given.items() if artifact}, Path(page.path))
