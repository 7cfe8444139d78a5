"""KFP face of report."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def report(
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    profiles: dsl.Input[dsl.Artifact],
    selection: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    deployment: dsl.Input[dsl.Artifact] = None,
    base: dsl.Input[dsl.Model] = None,
    scratch: dsl.Input[dsl.Model] = None,
    tuning: dsl.Input[dsl.Artifact] = None,
):
    """Write the run's report: one HTML page that needs nothing else.

    Args:
        data: dataset folder.
        teacher: the fine-tuned model, for its training curve.
        profiles: their speed, latency and memory.
        selection: the choice, with every candidate's model.json and metrics.json.
        page: the report.
        deployment: what was deployed; left out if nothing was.
        base: the base adapted to the domain, and what that bought; left out if it was not.
        scratch: the language model pretrained from scratch; left out if there is none.
        tuning: the search for hyperparameters; left out if there was none.
    """
    from pathlib import Path

    from undercut.report.render import Sources, write_report
    from undercut.steps import step

    with step("report", output=page.path):
        # fmt: off
        cards = tuple(sorted(Path(selection.path, "candidates").iterdir()))
        given = {"deployment": deployment, "base": base, "scratch": scratch, "tuning": tuning}
        sources = Sources(
            data=Path(data.path), teacher=Path(teacher.path), models=cards, evaluations=cards,
            profiles=Path(profiles.path), selection=Path(selection.path),
            **{name: Path(artifact.path) for name, artifact in given.items() if artifact},
        )
        # fmt: on
        write_report(sources, Path(page.path))
