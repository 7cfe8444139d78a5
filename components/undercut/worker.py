"""One process of a training: ``torchrun … --module undercut.worker FILE.json``, FILE a path or ``s3://bucket/key``.

The file names the training (:mod:`undercut.trainings`), its arguments, and where inputs and outputs are: paths,
or ``s3://bucket/folder/``. The first process reports events, uses this machine's workspace and leaves the
outputs; the others compute the same in a folder of their own, which is thrown away. At its end the first
process writes what the step that started it must know to ``report``: GPUs used, or why an input was refused.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from undercut import costs, distributed, events, interruption, steps, trainings, workspace
from undercut.cluster import folders
from undercut.errors import ConfigurationError
from undercut.storage import local_path


def main(location: str) -> None:
    """Do this process's part of the training that the file describes.

    Raises:
        SystemExit: with code 2 where an input or setting was refused.
    """
    steps.watch_parent()
    spec = json.loads(local_path(location, "worker").read_text(encoding="utf-8"))
    inputs = {name: _input(uri, name) for name, uri in spec["inputs"].items()}
    with contextlib.nullcontext() if distributed.is_first() else _aside():
        events.begin(**spec["events"])
        stopwatch = costs.Stopwatch(spec["training"], spec["detail"])
        outputs = {name: _output(uri, name) for name, uri in spec["outputs"].items()}
        try:
            with interruption.flushed(), distributed.group():
                trainings.train(spec["training"], {**inputs, **outputs}, spec["arguments"])
        except ConfigurationError as error:
            refusal = {"field": error.field, "got": error.got, "allowed": error.allowed, "remedy": error.remedy}
            _report(spec, {"refused": refusal})
            print(error, file=sys.stderr)
            raise SystemExit(steps.EXIT_CONFIGURATION) from error
        if distributed.is_first():
            for name, uri in spec["outputs"].items():
                if folders.is_remote(uri):
                    folders.upload(outputs[name], uri)
            _report(spec, {"use": stopwatch.entry()})


def _input(uri: str | None, name: str) -> Path | None:
    return local_path(uri, name) if uri else None


def _output(uri: str, name: str) -> Path:
    """Return the folder to write: the wanted one, or where that is remote or this process's is not, one of its own."""
    if distributed.is_first() and not folders.is_remote(uri):
        return Path(uri)
    return workspace.home() / "outputs" / name


def _report(spec: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    if distributed.is_first():
        text = json.dumps(content, default=str)
        if folders.is_remote(spec["report"]):
            folders.write(spec["report"], text.encode())
        else:
            Path(spec["report"]).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Give this process a workspace of its own, which shares what was downloaded and tells nobody of its work."""
    downloads = workspace.home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name in ("UNDERCUT_EVENTS", "UNDERCUT_CHECKPOINTS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix=f"undercut-{distributed.rank()}-") as folder:
        os.environ["UNDERCUT_HOME"] = folder
        (Path(folder) / "downloads").symlink_to(downloads)
        yield


if __name__ == "__main__":
    main(sys.argv[1])
