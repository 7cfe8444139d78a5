"""The flags of commands that compile: what cannot be set when a run is started."""

from pathlib import Path
from typing import Annotated

import typer

from undercut.cluster.options import CompileOptions

Image = Annotated[str, typer.Option(help="Image of every step, best by digest; the components' own if left out.")]
CachePvc = Annotated[str, typer.Option(help="ReadWriteMany claim that training steps keep downloads on.")]
Spot = Annotated[bool, typer.Option("--spot", help="Train in TrainJobs on nodes that may vanish; checkpoints hold.")]
Team = Annotated[str, typer.Option(help="Label of every pod, for attributing cost.")]
Retries = Annotated[int, typer.Option(help="How often a step whose pod was lost starts again.")]
LongestHours = Annotated[int, typer.Option(help="The longest a step may take, its retries included.")]
SharedMemory = Annotated[str, typer.Option(help="Size limit of /dev/shm in training steps.")]
PullSecret = Annotated[str, typer.Option(help="Secret that the image is pulled with.")]


def label_of(recipe: Path | None) -> str:
    """Return a recipe's name as the pods' label, or nothing without one."""
    return recipe.stem[:63].rstrip("-_.") if recipe else ""


def compile_options(
    image: str,
    cache_pvc: str,
    spot: bool,
    team: str,
    retries: int,
    longest_hours: int,
    shared_memory: str,
    image_pull_secret: str,
    recipe: Path | None,
) -> CompileOptions:
    """Return the options that the flags name.

    Raises:
        ConfigurationError: one is wrong.
    """
    return CompileOptions(
        image=image,
        cache_pvc=cache_pvc,
        spot=spot,
        team=team,
        recipe=label_of(recipe),
        retries=retries,
        longest_hours=longest_hours,
        shared_memory=shared_memory,
        image_pull_secret=image_pull_secret,
    )
