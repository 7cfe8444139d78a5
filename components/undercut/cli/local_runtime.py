"""KFP's local runner, held to what a person wants to see and what a command needs.

Three things differ from KFP 2.17 as it is: what it prints goes to a log file; steps taken from its cache
are reported; and the text ``python3`` is replaced by the interpreter's path in the command alone, where
KFP replaces it in arguments and paths as well.
"""

import builtins
import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kfp import dsl, local
from kfp.local import cache as kfp_cache
from kfp.local import docker_task_handler, subprocess_task_handler

from undercut import artifacts

if TYPE_CHECKING:
    from undercut.cli.docker_runtime import Containers


class CachedStep(Protocol):
    """Told of each step that was not run: its name, its detail, its outputs by name."""

    def __call__(self, step: str, detail: str, outputs: dict[str, str]) -> None:
        """Take one step."""
        ...


@contextlib.contextmanager
def local_runner(
    artifacts_root: Path, cache_root: Path, log: Path, cached: CachedStep, containers: "Containers | None" = None
) -> Iterator[None]:
    """Set KFP's local runner up for one pipeline run.

    Args:
        artifacts_root: where steps write their outputs.
        cache_root: where finished steps are remembered.
        log: receives everything that KFP and the steps print.
        cached: called, from KFP's threads, for each step taken from the cache.
        containers: where steps run; None for processes of this machine.
    """
    root = logging.getLogger()
    handlers, level, printer = root.handlers[:], root.level, builtins.print
    before = kfp_cache.LocalCache, subprocess_task_handler.replace_python_executable
    run_container = docker_task_handler.run_docker_container
    kfp_cache.LocalCache = _reporting_cache(cached)
    subprocess_task_handler.replace_python_executable = _replace_python
    if containers:
        docker_task_handler.run_docker_container = containers.run
    local.init(
        local.DockerRunner() if containers else local.SubprocessRunner(use_venv=False),
        pipeline_root=str(artifacts_root),
        workspace_root=str(artifacts_root / "workspace"),
        enable_caching=True,
        cache_root=str(cache_root),
    )
    try:
        with log.open("a", encoding="utf-8", errors="replace") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield
    finally:
        kfp_cache.LocalCache, subprocess_task_handler.replace_python_executable = before
        docker_task_handler.run_docker_container = run_container
        kfp_cache.reset_local_cache_singleton()
        builtins.print = printer
        root.handlers[:] = handlers
        root.setLevel(level)


def _replace_python(command: list[str], executable: str) -> list[str]:
    """Replace ``python3`` in the shell command, which comes before the step's code and its arguments."""
    shell = next((i for i, part in enumerate(command) if '"$@"' in part), 0)
    return [part.replace("python3", executable) if i <= shell else part for i, part in enumerate(command)]


def _reporting_cache(cached: CachedStep) -> Callable[..., Any]:
    class ReportingCache(kfp_cache.LocalCache):  # type: ignore[misc]
        """KFP's cache; a hit is reported with its step's name."""

        def __init__(self, cache_root: str) -> None:
            super().__init__(cache_root)
            self._steps: dict[str, str] = {}

        def compute_key(self, component_name: str, **content: Any) -> str:
            key = str(super().compute_key(component_name=component_name, **content))
            self._steps[key] = re.sub(r"^comp-|-\d+$", "", component_name)
            return key

        def get(self, key: str) -> dict[str, Any] | None:
            outputs: dict[str, Any] | None = super().get(key)
            if outputs is not None:
                paths = {n: v.path for n, v in outputs.items() if isinstance(v, dsl.Artifact)}
                cached(self._steps[key], _detail(self._steps[key], paths), paths)
            return outputs

    return ReportingCache


def own_output(step: str, outputs: dict[str, str]) -> str:
    """Return the path of the output that carries a step's ledger; the first one if none does, or nothing."""
    for path in outputs.values():
        ledger = _ledger(Path(path))
        if ledger and ledger[-1]["step"] == step:
            return path
    return next(iter(outputs.values()), "")


def _detail(step: str, outputs: dict[str, str]) -> str:
    path = own_output(step, outputs)
    ledger = _ledger(Path(path)) if path else []
    return str(ledger[-1]["detail"]) if ledger and ledger[-1]["step"] == step else ""


def _ledger(path: Path) -> list[dict[str, Any]]:
    name = artifacts.manifest_name(path)
    return list(artifacts.load(path, name)["ledger"]) if name else []
