"""``undercut run --runner``: where the steps of a run work."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from undercut.cli.pipeline_file import PipelineFile
from undercut.errors import ConfigurationError

if TYPE_CHECKING:
    from undercut.cli.docker_runtime import Containers

RUNNERS = ("process", "docker")


def check_runner(runner: str) -> None:
    """Refuse a runner that there is not.

    Raises:
        ConfigurationError: it is neither process nor docker.
    """
    if runner not in RUNNERS:
        raise ConfigurationError("--runner", runner, " or ".join(RUNNERS))


def containers(
    runner: str, pipeline: PipelineFile, arguments: Mapping[str, Any], console: Console
) -> "Containers | None":
    """Return where the steps run: None for processes of this machine.

    Raises:
        ConfigurationError: Docker does not answer, or has no train image.
    """
    if runner == "process":
        return None
    from undercut.cli.docker_runtime import Containers

    found = Containers([arguments[name] for name in pipeline.uris])
    if found.differs():
        console.print(Text(found.differs(), style="yellow"))
    return found
