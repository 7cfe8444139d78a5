"""A stand-in for what runs in a step's pod on Kubeflow: KFP's launcher, under Argo's argoexec.

A task is a compiled component. Its real command (``sh -ec … python3 -m kfp.dsl.executor_main``) is run as a
child, with an executor input as KFP's driver writes it. The launcher has no handler for SIGTERM: it dies at
once, whereupon the container ends. So this one sends the signal on to its process group, as argoexec does, and
kills the group 0.15 s later, which is how long a Python process was seen to live. Every exit code but 0 becomes 1.
A retry is the same task on an empty disk: another workspace, no outputs, the same names for them.

Where a step is to know its artifacts by their URIs in a store too, ``mount`` is the folder in the place of ``/minio``,
under which KFP has the paths of ``minio://`` artifacts.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE_SECONDS = 0.15
# Run by the step's interpreter at its start.
MOUNTED = """
import os
from kfp.dsl.types import artifact_types
artifact_types._MINIO_LOCAL_MOUNT_PREFIX = os.environ["MINIO_FOLDER"]
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a run: a component's compiled YAML, its arguments, its input artifacts, its outputs' root."""

    component: Path
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Path]
    outputs: Path
    mount: Path | None = None

    def _uri(self, path: Path) -> str:
        return f"minio://{path.relative_to(self.mount)}" if self.mount else str(path)

    def _spec(self) -> tuple[dict[str, Any], dict[str, Any]]:
        import yaml

        content = next(iter(yaml.safe_load_all(self.component.read_text())))
        (component,) = (c for name, c in content["components"].items() if "executorLabel" in c)
        container = content["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        return component, container

    def output(self, name: str) -> Path:
        return self.outputs / name

    def executor_input(self) -> dict[str, Any]:
        """Return what the driver gives the launcher: all parameters (defaults filled in), artifacts, places."""
        component, _ = self._spec()
        inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        parameters = inputs.get("parameters", {})
        defaults = {
            n: _as_json(p["defaultValue"], p["parameterType"]) for n, p in parameters.items() if "defaultValue" in p
        }
        schemas = {n: a["artifactType"] for n, a in inputs.get("artifacts", {}).items()}
        return {
            "inputs": {
                "parameterValues": {**defaults, **self.arguments},
                "artifacts": {
                    n: {"artifacts": [{"name": n, "type": schemas[n], "uri": self._uri(p), "metadata": {}}]}
                    for n, p in self.inputs.items()
                },
            },
            "outputs": {
                "artifacts": {
                    n: {"artifacts": [{"name": n, "type": a["artifactType"], "uri": self._uri(self.output(n))}]}
                    for n, a in outputs.get("artifacts", {}).items()
                },
                "outputFile": str(self.outputs / "executor_output.json"),
            },
        }

    def start(self, home: Path, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start an attempt on an empty disk: ``home`` is its workspace."""
        for place in (home, self.outputs):
            shutil.rmtree(place, ignore_errors=True)
        self.outputs.mkdir(parents=True)
        _, container = self._spec()
        given = json.dumps(self.executor_input())
        arguments = [given if argument == "{{$}}" else argument for argument in container["args"]]
        path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        if self.mount:
            (home.parent / "site").mkdir(exist_ok=True)
            (home.parent / "site" / "sitecustomize.py").write_text(MOUNTED)
            mounted = {"PYTHONPATH": str(home.parent / "site"), "MINIO_FOLDER": f"{self.mount}/"}
            environment = {**environment, **mounted}
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, __file__, *container["command"], *arguments],
                env={**environment, "PATH": path, "UNDERCUT_HOME": str(home)},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )


def _as_json(value: Any, kind: str) -> Any:
    """Return a default as the driver passes it on: whole numbers without a fraction."""
    return int(value) if kind == "NUMBER_INTEGER" else value


def main(command: list[str]) -> int:
    """Run the command as a child; on SIGTERM end the whole group."""

    def die(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)

    signal.signal(signal.SIGTERM, die)
    return 1 if subprocess.run(command, check=False).returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
