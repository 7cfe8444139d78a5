"""The flags of commands that compile: what cannot be set when a run is started."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

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


def compile_options(arguments: Mapping[str, Any]) -> CompileOptions:
    """Return the options among a command's arguments (its ``locals()``); its recipe's name becomes a label.

    Raises:
        ConfigurationError: one is wrong.
    """
    recipe: Path | None = arguments["recipe"]
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", recipe.stem)[:63].strip("-_.") if recipe else ""
    values = {field.name: arguments[field.name] for field in fields(CompileOptions)}
    return CompileOptions(**{**values, "recipe": label})
