"""The server's command line.

    python -m undercut.serving --model FOLDER --name NAME --port 8080 --threads 1

What it answers is in :mod:`undercut.serving.server`, what it counts in :mod:`undercut.serving.metrics`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from undercut import steps
from undercut.errors import ConfigurationError
from undercut.serving.server import serve
from undercut.serving.settings import ServeConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="undercut.serving", description="Serve a model folder (KServe V1 and V2).")
    option = parser.add_argument
    option("--model", type=Path, required=True, help="model folder (with model.json), or a link to one")
    option("--name", default=ServeConfig.name, help="model name in the endpoints' paths")
    option("--host", default=ServeConfig.host, help="address to listen on (0.0.0.0 in a container)")
    option("--port", type=int, default=ServeConfig.port, help="0: any free one")
    option("--threads", type=int, default=ServeConfig.threads, help="threads of one prediction")
    option("--digest", help="refuse the folder unless its digest is this one; a load must then name its own")
    option("--watch", type=float, default=0.0, metavar="SECONDS", help="look for a new model this often; 0: never")
    option("--usd-per-hour", type=float, default=0.0, help="price of the device, for the metric; 0: not exported")
    option("--tokenizer", type=Path, help="folder with the base model's tokenizer.json, to count tokens with")
    option("--grace-seconds", type=int, default=ServeConfig.grace_seconds, help="for requests in flight at SIGTERM")
    chosen = vars(parser.parse_args(arguments))
    steps.watch_parent()
    try:
        serve(ServeConfig(watch_seconds=chosen.pop("watch"), **chosen))
    except ConfigurationError as error:
        print(f"serve: {error}", file=sys.stderr)
        return steps.EXIT_CONFIGURATION
    return 0


if __name__ == "__main__":
    sys.exit(main())
