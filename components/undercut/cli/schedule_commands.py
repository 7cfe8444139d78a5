"""``undercut schedule``: recurring runs on a cluster."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from undercut.cli import compile_flags
from undercut.cli.cluster_commands import (
    OPEN,
    Endpoint,
    Experiment,
    KubeContext,
    Namespace,
    NoCache,
    Pin,
    PipelinePath,
    RecipePath,
    ServiceAccount,
    connected,
    prepared,
    wide_console,
)
from undercut.errors import ConfigurationError


class SetIfNoCommand(TyperGroup):
    """``undercut schedule PIPELINE …`` is ``undercut schedule set PIPELINE …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``set`` before the path of a pipeline."""
        if args and args[0].endswith(".py"):
            args = ["set", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=SetIfNoCommand,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Run a pipeline on Kubeflow again and again; times are in the cluster's time zone.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@app.command("set", context_settings=OPEN)
def set_(
    context: typer.Context,
    pipeline: PipelinePath,
    name: Annotated[str, typer.Option(help="The schedule's name; one of that name is changed.")],
    cron: Annotated[str, typer.Option(help="Six fields, seconds first: '0 0 2 * * *' is every day at 2.")] = "",
    every: Annotated[str, typer.Option(help="An interval instead, such as 30m, 24h or 7d.")] = "",
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Start all that was missed, not the latest alone.")
    ] = False,
    max_concurrency: Annotated[int, typer.Option(min=1, max=10, help="How many of its runs may go on at once.")] = 1,
    recipe: RecipePath = None,
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
    """Create a schedule, or change it; the same command twice leaves one.

    KFP starts the pipeline at the times that --cron or --every names, in the time zone of the cluster (UTC,
    unless CRON_SCHEDULE_TIMEZONE of its ml-pipeline-scheduledworkflow names another). A run that would start
    while the one before still goes on waits (not for one that the schedule had started before it was changed).
    Of the times missed while it was paused or busy, the latest is made up for: a schedule that is resumed may
    start a run at once. A schedule that you paused stays paused; one paused in Kubeflow's UI before its first
    run is taken for a change that was cut short.
    """
    options = compile_flags.compile_options(locals())
    from undercut.cluster import cron as times
    from undercut.cluster import schedules, submission

    if bool(cron) == bool(every):
        raise ConfigurationError("cron, every", "both" if cron else "neither", "one of --cron and --every")
    expression = times.parse_cron(cron) if cron else ""
    seconds = times.parse_interval(every) if every else 0
    if cron and len(cron.split()) == len(times.FIELDS) - 1:
        typer.echo(f"KFP's cron has seconds first: taken as '{expression}'", err=True)
    loaded, arguments = prepared(pipeline, recipe, context.args, options, pin, not no_cache)
    client = connected(endpoint, namespace, kube_context, experiment, service_account)
    version = submission.upload(client, loaded, caching=not no_cache)
    definition = schedules.Definition(
        name=name,
        cron=expression,
        every_seconds=seconds,
        experiment_id=submission.experiment_id(client, client.settings.experiment),
        pipeline_id=version.pipeline_id,
        version_id=version.id,
        arguments=arguments,
        service_account=client.settings.service_account,
        max_concurrency=max_concurrency,
        catch_up=catch_up,
    )
    done = schedules.set_schedule(client, definition)
    typer.echo(f"{name}: {done}. {expression or f'every {every}'}, {version.name}")


@app.command("list")
def list_(endpoint: Endpoint = "", namespace: Namespace = "", kube_context: KubeContext = "") -> None:
    """List the schedules."""
    from undercut.cli.cluster_tables import schedules_table
    from undercut.cluster.schedules import schedules

    found = schedules(connected(endpoint, namespace, kube_context))
    wide_console().print(schedules_table(found) if found else "No schedules.")


@app.command()
def pause(name: Name, endpoint: Endpoint = "", namespace: Namespace = "", kube_context: KubeContext = "") -> None:
    """Start no more runs; the run that goes on ends by itself."""
    from undercut.cluster import schedules

    done = schedules.pause(connected(endpoint, namespace, kube_context), name)
    typer.echo(f"{name}: {'paused' if done else 'was paused already'}")


@app.command()
def resume(name: Name, endpoint: Endpoint = "", namespace: Namespace = "", kube_context: KubeContext = "") -> None:
    """Start runs again."""
    from undercut.cluster import schedules

    done = schedules.resume(connected(endpoint, namespace, kube_context), name)
    typer.echo(f"{name}: {'resumed' if done else 'was not paused'}")


@app.command()
def delete(name: Name, endpoint: Endpoint = "", namespace: Namespace = "", kube_context: KubeContext = "") -> None:
    """Delete a schedule; its runs, also one that goes on, stay."""
    from undercut.cluster import schedules

    schedules.delete(connected(endpoint, namespace, kube_context), name)
    typer.echo(f"{name}: deleted")
