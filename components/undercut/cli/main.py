"""The ``undercut`` command."""

import errno
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from undercut.cli import cluster_commands, compile_flags
from undercut.cli.console import standard_output
from undercut.errors import ConfigurationError

RECIPES = Path("pipelines/recipes")
OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Raw text in, the cheapest language model that still passes your quality bar out.",
    epilog="Start with: undercut run pipelines/lifecycle.py --recipe pipelines/recipes/customer_service.yaml",
)

PipelinePath = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="A pipeline file, such as pipelines/lifecycle.py")
]
RecipePath = Annotated[Path | None, typer.Option(help="A YAML file of the pipeline's arguments; flags go over it.")]


@app.command(context_settings=OPEN, add_help_option=False)
def run(
    context: typer.Context,
    pipeline: PipelinePath,
    recipe: RecipePath = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what would run, run nothing.")
    ] = False,
    runner: Annotated[
        str, typer.Option(help="Where steps run: process, or docker for containers of the train image.")
    ] = "process",
) -> None:
    """Run a pipeline on this machine.

    Each of the pipeline's arguments is a flag: --source my.csv, --bar.minimum 0.9,
    --candidates linear,finetuned/int8. `undercut run PIPELINE --help` lists them. Finished steps are
    reused when nothing they depend on changed; an interrupted training goes on where it stopped.
    """
    from undercut.cli import runs, summary
    from undercut.cli.arguments import pinned, resolve
    from undercut.cli.listing import arguments_table, inputs_text
    from undercut.cli.pipeline_file import load_pipeline
    from undercut.cli.run import run_pipeline
    from undercut.cli.runners import check_runner, containers

    if "--help" in (pipeline, *context.args):
        typer.echo(context.get_help())
        if pipeline != "--help":
            Console(highlight=False).print(inputs_text(load_pipeline(pipeline)))
        return
    check_runner(runner)
    loaded = load_pipeline(pipeline)
    arguments = loaded.checked(pinned(loaded, resolve(loaded, recipe, context.args)))
    console = standard_output(120)
    if dry_run:
        console.print(arguments_table(loaded.inputs, arguments))
        console.print(f"{loaded.name}: about {loaded.steps(arguments)} steps. Everything checked, nothing run.")
        return
    folder = run_pipeline(loaded, arguments, recipe, console, containers(runner, loaded, arguments, console))
    record = runs.read(folder)
    if record["status"] == "failed":
        summary.show_failure(folder, record, Console(stderr=True, highlight=False))
        raise typer.Exit(2 if record["expected"] else 1)
    summary.show(folder, console)


@app.command("compile", context_settings=OPEN)
def compile_(
    context: typer.Context,
    pipeline: PipelinePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the compiled pipeline (YAML).")],
    recipe: RecipePath = None,
    image: compile_flags.Image = "",
    cache_pvc: compile_flags.CachePvc = "",
    spot: compile_flags.Spot = False,
    team: compile_flags.Team = "",
    retries: compile_flags.Retries = 2,
    longest_hours: compile_flags.LongestHours = 48,
    shared_memory: compile_flags.SharedMemory = "2Gi",
    image_pull_secret: compile_flags.PullSecret = "",
) -> None:
    """Compile a pipeline for Kubeflow; a recipe and flags become its defaults.

    The result is uploaded in Kubeflow's UI, under Pipelines. `undercut run PIPELINE --help` lists the pipeline's
    own flags.
    """
    options = compile_flags.compile_options(locals())
    from undercut.cli.arguments import merged
    from undercut.cli.pipeline_file import load_pipeline
    from undercut.cluster.submission import LocalPath, check_source

    loaded = load_pipeline(pipeline, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = loaded.checked(merged(loaded, recipe, context.args))
    for name in (n for n in loaded.uris if arguments[n]):
        try:
            check_source(name, arguments[name])
        except LocalPath as error:  # the person who starts a run gives another
            typer.echo(f"As a default only: {error}", err=True)
    changed = {n: v for n, v in arguments.items() if v != loaded.inputs[n].default}
    loaded.compile(output, changed)
    typer.echo(f"{output}: {loaded.name}, {len(loaded.inputs)} inputs. Upload it in the Kubeflow UI under Pipelines.")


cluster_commands.register(app)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Registered name; the newest run's model if left out.")] = "",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    threads: Annotated[int, typer.Option(help="Threads of one prediction.")] = 1,
    usd_per_hour: Annotated[float, typer.Option(help="The device's price, for the metric of the price so far.")] = 0.0,
) -> None:
    """Serve the champion over HTTP (KServe's V1 and V2 protocols), until Ctrl-C."""
    from undercut import registry
    from undercut.cli import runs
    from undercut.serving.server import serve as start
    from undercut.serving.settings import ServeConfig

    name = model or runs.read(runs.find(""))["arguments"].get("model_name")
    if not name:
        allowed = "a registered name (the newest run's pipeline registers none)"
        raise ConfigurationError("model", model, allowed, "Name it: undercut serve NAME")
    folder, version = registry.champion_folder(name)
    typer.echo(f"{name} version {version.number}, from the registry", err=True)
    config = ServeConfig(
        model=folder,
        name=name,
        port=port,
        host=host,
        threads=threads,
        digest=version.digest,
        usd_per_hour=usd_per_hour,
    )
    start(config)


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id; the newest if left out.")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List all runs.")] = False,
) -> None:
    """Show how a run ended, again, and where its report is."""
    from undercut.cli import runs, summary
    from undercut.cli.listing import runs_table

    console = standard_output(120)
    if list_:
        console.print(runs_table())
        return
    folder = runs.find(run_id)
    record = runs.read(folder)
    if record["status"] not in ("passed", "missed", "finished"):
        console.print(f"{folder.name}: {record['status']}. {record.get('failure', '')}", markup=False)
        return
    summary.show(folder, console)
    if open_:
        webbrowser.open((folder / "report.html").as_uri())


@app.command()
def recipes(folder: Annotated[Path, typer.Argument(help="Where to look.")] = RECIPES) -> None:
    """List the recipes that come along."""
    from undercut.cli.arguments import recipe_summary

    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise ConfigurationError(
            "folder", str(folder), "a folder with recipes (*.yaml)", "Run this where pipelines/ is"
        )
    console = Console(highlight=False)
    for path in found:
        console.print(f"[bold]{escape(str(path))}[/bold]", soft_wrap=True)
        console.print(Padding(escape(recipe_summary(path)), (0, 0, 1, 2)))


@app.command()
def doctor() -> None:
    """Say what this machine has, and what it lacks."""
    from undercut.cli.doctor import LACK, examine
    from undercut.cli.listing import findings_table

    findings = examine()
    Console(highlight=False).print(findings_table(findings))
    if any(finding.status == LACK for finding in findings):
        raise typer.Exit(1)


@app.command()
def clean(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest runs stay; 0 removes all of them.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove old runs, old caches and left-over checkpoints; MLflow's store stays."""
    from undercut.cli.clean import removable, remove
    from undercut.wording import size

    items = removable(keep)
    console = Console(highlight=False)
    for item in items:
        console.print(f"  {size(item.bytes):>9}  {item.path}  ({item.why})", markup=False, soft_wrap=True)
    if not items:
        console.print("Nothing to remove.")
        return
    total = size(sum(item.bytes for item in items))
    if not yes and not typer.confirm(f"Remove {len(items)} folders, {total}?"):
        console.print("Nothing removed.")
        return
    remove(items)
    console.print(f"Removed {len(items)} folders, {total}.")


def main() -> None:
    """Run the command; what the user can mend is one message and exit code 2."""
    try:
        app()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"no space left on the disk. Free space (undercut clean), or set UNDERCUT_HOME: {error}", file=sys.stderr)
        sys.exit(2)
