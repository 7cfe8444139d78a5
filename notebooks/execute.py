"""Execute notebooks and write their outputs back, without times and paths of this machine.

    python notebooks/execute.py notebooks/03_try_one_component.ipynb

Needs ``nbclient`` and ``ipykernel`` (the extra ``dev``). The tests call :func:`execute` on copies.
"""

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 3600
# A path of this machine, wherever it begins: what a notebook shows must be the same for everyone.
ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=:,]|:///?)/(?:home|root|tmp|work|usr|Users|opt|var|mnt)/", re.MULTILINE)


def execute(path: Path) -> nbformat.NotebookNode:
    """Run every cell in the notebook's folder, as Jupyter does, and return the notebook with its outputs.

    Raises:
        CellExecutionError: a cell raised.
    """
    # Outputs would be laid out for the terminal that this was started from.
    os.environ.update(COLUMNS="120", NO_COLOR="1")
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    book.metadata.get("language_info", {}).pop("version", None)
    return book


def shown(book: nbformat.NotebookNode) -> str:
    """Return all the text of a notebook's outputs."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    parts = [output.get("text", "") for output in outputs]
    parts += [str(text) for output in outputs for text in output.get("data", {}).values()]
    return "\n".join(parts)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        executed = execute(Path(name))
        for line in shown(executed).splitlines():
            if ABSOLUTE_PATH.search(line):
                sys.exit(f"{name}: an output holds a path of this machine: {line}")
        nbformat.write(executed, name)
