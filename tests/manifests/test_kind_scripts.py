"""The scripts of manifests/kind, with stand-ins for kind, kubectl and docker that remember and write down.

No cluster is made: this shows the order, that a second run changes nothing that is there, and what a failure leaves.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.manifests.rendering import MANIFESTS

KIND = """#!/bin/sh
echo "kind $*" >> "$STATE/calls"
case "$1 $2" in
    "get clusters") if [ -e "$STATE/cluster" ]; then echo undercut; else echo "No kind clusters found." >&2; fi ;;
    "create cluster") [ ! -e "$STATE/cluster" ] && touch "$STATE/cluster" ;;
    "delete cluster") rm -f "$STATE/cluster" ;;
esac
"""
KUBECTL = """#!/bin/sh
echo "kubectl $*" >> "$STATE/calls"
case "$*" in
    *"get secret"*) printf 'a2V5' ;;
    *"create namespace"*) echo "kind: Namespace" ;;
    *"--filename -"*) cat > /dev/null ;;
esac
if [ -e "$STATE/broken" ]; then
    case "$*" in *"$(cat "$STATE/broken")"*) exit 1 ;; esac
fi
"""
DOCKER = """#!/bin/sh
echo "docker $*" >> "$STATE/calls"
[ -e "$STATE/images" ]
"""


class Machine:
    """A copy of the manifests, and a folder of stand-ins that comes first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        shutil.copytree(MANIFESTS, folder / "manifests", ignore=shutil.ignore_patterns("*.env"))
        (folder / "bin").mkdir()
        self.state.mkdir()
        for name, text in (("kind", KIND), ("kubectl", KUBECTL), ("docker", DOCKER)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "STATE": str(self.state),
            "RETRY_SECONDS": "0",
        }
        command = [self.folder / "manifests/kind" / script]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def calls(self) -> list[str]:
        """What was called since the last time."""
        text = (self.state / "calls").read_text()
        (self.state / "calls").write_text("")
        return text.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (made.state / "images").touch()
    return made


def applied(calls: list[str]) -> list[str]:
    return [c.split("manifests/")[1].split()[0] for c in calls if " apply " in c and "--kustomize" in c]


def test_up_makes_a_cluster_once_and_applies_every_part_in_order(machine: Machine) -> None:
    for created in (True, False):
        done = machine.run("up.sh")
        assert done.returncode == 0, done.stderr
        calls = machine.calls()
        assert any(c.startswith("kind create cluster") for c in calls) is created
        assert applied(calls) == [
            "kind/cert-manager",
            "kind/kfp-cluster",
            "kind/kfp",
            "kind/trainer",
            "kind/kserve",
            "secrets/platform",
            "secrets/runs",
            "overlays/kind",
        ]
        assert all("--context kind-undercut" in c for c in calls if c.startswith("kubectl"))
    assert "a2V5" not in done.stdout + done.stderr


def test_up_says_what_is_missing_before_it_makes_anything(machine: Machine) -> None:
    (machine.state / "images").unlink()
    done = machine.run("up.sh")
    assert done.returncode == 2
    assert "make images" in done.stderr
    assert not any(c.startswith("kind create") for c in machine.calls())


def test_a_failure_leaves_logs_and_no_success(machine: Machine) -> None:
    (machine.state / "broken").write_text("kind/kserve")
    done = machine.run("up.sh")
    assert done.returncode != 0
    assert "try 5 of 5 failed" in done.stderr
    assert sorted(p.name for p in (machine.folder / ".undercut/kind-logs").iterdir()) == [
        "cert-manager-pods.txt",
        "events.txt",
        "export.txt",
        "kserve-pods.txt",
        "kubeflow-pods.txt",
        "kubeflow-system-pods.txt",
        "objects.txt",
        "undercut-pods.txt",
    ]
    calls = machine.calls()
    assert any(c.startswith("kind export logs") for c in calls)
    assert "overlays/kind" not in applied(calls)
    # Logs never show a Secret's content.
    assert not any("secret" in c and "describe" in c for c in calls)


def test_test_and_down_without_a_cluster(machine: Machine) -> None:
    done = machine.run("test.sh")
    assert done.returncode == 2
    assert "make kind-up" in done.stderr
    machine.run("up.sh")
    for _ in range(2):
        assert machine.run("down.sh").returncode == 0
    assert not (machine.state / "cluster").exists()


def test_the_one_component_compiles_for_a_cluster() -> None:
    from undercut.cli.pipeline_file import load_pipeline
    from undercut.cluster.options import CompileOptions

    loaded = load_pipeline(str(MANIFESTS / "kind/one_component.py"), CompileOptions())
    assert loaded.name == "one-component"
