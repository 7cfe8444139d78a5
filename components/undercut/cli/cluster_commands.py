"""The commands that talk to a cluster: ``submit``, ``runs``, and ``schedule`` with its own commands."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from undercut.cli import compile_flags
from undercut.cli.console import standard_output

if TYPE_CHECKING:
    from undercut.cli.pipeline_file import PipelineFile
    from undercut.cluster.connection import Client
    from undercut.cluster.options import CompileOptions

OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}
INTERRUPTED = 130  # what a shell reports after Ctrl-C

PipelinePath = Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline file.")]
RecipePath = Annotated[Path | None, typer.Option(help="A YAML file of the pipeline's arguments; flags go over it.")]
Endpoint = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; else KF_PIPELINES_ENDPOINT, or the file.")]
Namespace = Annotated[str, typer.Option(help="Your profile's namespace, where KFP has several users.")]
KubeContext = Annotated[str, typer.Option("--context", help="The kubeconfig's context, where no endpoint is given.")]
Experiment = Annotated[str, typer.Option(help="Experiment of the runs; undercut if left out.")]
ServiceAccount = Annotated[str, typer.Option(help="ServiceAccount of the runs; undercut-runner if left out.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Take no step's result from KFP's cache.")]
Pin = Annotated[bool, typer.Option("--pin", help="Read the sources from here, and pin them by their content.")]


def submit(
    context: typer.Context,
    pipeline: PipelinePath,
    recipe: RecipePath = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; exit with 1 where it fails.")] = False,
    name: Annotated[str, typer.Option(help="The run's name.")] = "",
    no_cache: NoCache = False,
    pin: Pin = False,
    experiment: Experiment = "",
    service_account: ServiceAccount = "",
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    kube_context: KubeContext = "",
    image: compile_flags.Image = "",
    cache_pvc: compile_flags.CachePvc = "",
    spot: compile_flags.Spot = False,
    team: compile_flags.Team = "",
    retries: compile_flags.Retries = 2,
    longest_hours: compile_flags.LongestHours = 48,
    shared_memory: compile_flags.SharedMemory = "2Gi",
    image_pull_secret: compile_flags.PullSecret = "",
) -> None:
    """Run a pipeline on Kubeflow.

    Checks the arguments, compiles, uploads the pipeline as a version named by its content (once), and starts
    a run with the arguments; prints its page. Sources have to be where pods can read them (s3://, https://,
    hf://, sql+...); they are not read from here unless you give --pin. Who you are comes from
    UNDERCUT_KFP_TOKEN or UNDERCUT_KFP_COOKIE, from files that ~/.config/undercut/config.yaml names, from the
    pod's own token, or from your kubeconfig. `undercut run PIPELINE --help` lists the pipeline's arguments.
    """
    options = compile_flags.compile_options(locals())
    from undercut.cluster import submission

    loaded, arguments = prepared(pipeline, recipe, context.args, options, pin, not no_cache)
    client = connected(endpoint, namespace, kube_context, experiment, service_account)
    version = submission.upload(client, loaded, caching=not no_cache)
    typer.echo(f"{version.name} {'uploaded' if version.uploaded else 'is there already'}")
    group = submission.experiment_id(client, client.settings.experiment)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    title = name or " ".join(part for part in (loaded.name, recipe.stem if recipe else "", stamp) if part)
    run_id = submission.start(client, version, arguments, title, group)
    typer.echo(f"run {run_id} started")
    typer.echo(client.run_link(run_id) or "Its page: in Kubeflow's UI, under Runs (set `ui` for a link here)")
    if wait:
        _follow(client, run_id)


def prepared(
    pipeline: str, recipe: Path | None, extra: list[str], options: "CompileOptions", pin: bool, caching: bool
) -> "tuple[PipelineFile, dict[str, Any]]":
    """Return the pipeline as it is compiled for a cluster, and all arguments of a run, checked.

    Raises:
        ConfigurationError: an argument is wrong, or pods could not follow it.
    """
    from undercut.cli.arguments import pinned, resolve
    from undercut.cli.pipeline_file import load_pipeline
    from undercut.cluster import submission

    loaded = load_pipeline(pipeline, options)
    arguments = resolve(loaded, recipe, extra)
    unpinned = submission.check_sources(loaded, arguments)
    if pin:
        arguments = pinned(loaded, arguments)
    elif unpinned and caching:
        what = " and ".join(unpinned)
        why = "KFP's cache sees the name alone, and may reuse what an earlier run read (--pin or --no-cache)"
        typer.echo(f"{what}: not pinned by content: {why}", err=True)
    return loaded, loaded.checked(arguments)


def connected(endpoint: str, namespace: str, context: str, experiment: str = "", service_account: str = "") -> "Client":
    """Return a client of the cluster that flags, environment and file of settings name."""
    from undercut.cluster.settings import read_settings

    flags = {"endpoint": endpoint, "namespace": namespace, "context": context}
    settings = read_settings({**flags, "experiment": experiment, "service_account": service_account})
    from undercut.cluster.connection import Client

    return Client(settings)


def runs(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id: its tasks and errors.")] = "",
    count: Annotated[int, typer.Option(min=1, max=200, help="How many of the newest.")] = 20,
    wait: Annotated[bool, typer.Option("--wait", help="Follow RUN to its end.")] = False,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    kube_context: KubeContext = "",
) -> None:
    """List the newest runs on the cluster, or show one: its tasks, their states, what failed."""
    from undercut.cli.cluster_tables import run_details, runs_listing

    client = connected(endpoint, namespace, kube_context)
    if run_id and wait:
        _follow(client, run_id)
        return
    console = wide_console()
    if run_id:
        parts = run_details(client, client.get_run(run_id))
    else:
        answer = client.list_runs(page_size=count, sort_by="created_at desc", namespace=client.profile)
        parts = runs_listing(client, answer.runs or [])
    for part in parts:
        console.print(part, soft_wrap=True)


def wide_console() -> Console:
    """Return a console for the wide tables of runs and schedules."""
    return standard_output(160)


def _follow(client: "Client", run_id: str) -> None:
    from undercut.cluster.following import SUCCEEDED, follow, tasks

    def say(line: str) -> None:
        typer.echo(line)

    try:
        state = follow(client, run_id, say)
    except KeyboardInterrupt:
        typer.echo(f"\nThe run goes on; only the watching ended. `undercut runs {run_id} --wait` takes it up again.")
        raise typer.Exit(INTERRUPTED) from None
    if state != SUCCEEDED:
        for task in tasks(client.get_run(run_id)):
            if task.state == "FAILED" and task.error:
                typer.echo(f"{task.name}: {task.error}", err=True)
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    from undercut.cli import schedule_commands

    app.command(context_settings=OPEN)(submit)
    app.command()(runs)
    app.add_typer(schedule_commands.app, name="schedule")
