"""The rules that keep the house in order, checked on the code itself."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import undercut

PACKAGE = Path(undercut.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
COMPONENTS = sorted(p.parent.name for p in PACKAGE.glob("*/component.py"))
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages([str(PACKAGE)], "undercut.")
    if not m.ispkg and not m.name.endswith(".component")
)
STAGES = {p.parent.name for p in PACKAGE.glob("*/component.py")}
# Each stage's Config: (module, class).
CONFIGS = {
    "deploy": ("undercut.deploy.settings", "DeployConfig"),
    "evaluate": ("undercut.evaluate.measure", "EvaluateConfig"),
    "finetune": ("undercut.finetune.settings", "FinetuneConfig"),
    "monitor": ("undercut.monitor.settings", "MonitorConfig"),
    "ingest": ("undercut.ingest.dataset", "IngestConfig"),
    "profile": ("undercut.profile.measure", "ProfileConfig"),
    "pretrain": ("undercut.pretrain.settings", "PretrainConfig"),
    "transfer": ("undercut.transfer.settings", "TransferConfig"),
    "quantize": ("undercut.quantize.export", "QuantizeConfig"),
    "tune": ("undercut.tune.settings", "TuneConfig"),
}


def test_only_components_import_kfp() -> None:
    """Every other module is imported, in a process where kfp cannot be."""
    allowed = [m for m in MODULES if not m.startswith(("undercut.cli", "undercut.cluster"))]
    code = f"import sys, importlib\nsys.modules['kfp'] = None\nfor name in {allowed!r}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_packages_are_empty() -> None:
    assert [p for p in PACKAGE.rglob("__init__.py") if p.read_text().strip()] == []


def test_stages_do_not_import_each_other() -> None:
    crossings = []
    for path in SOURCES:
        stage = path.relative_to(PACKAGE).parts[0]
        if stage not in STAGES:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("undercut."):
                other = (node.module or "").split(".")[1]
                allowed = stage == "check" and (node.module or "").endswith(".settings")
                if other in STAGES - {stage} and not allowed:
                    crossings.append(f"{path.relative_to(PACKAGE)}: {node.module}")
    assert crossings == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "train":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 60, f"{node.name}: {length} lines"


@pytest.mark.parametrize("stage", COMPONENTS)
def test_a_component_body_is_one_import_and_one_call(stage: str) -> None:
    tree = ast.parse((PACKAGE / stage / "component.py").read_text())
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    body = function.body[1:]
    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
    assert ast.get_docstring(function)
    assert lines <= 15
    assert not any(isinstance(n, ast.FunctionDef | ast.Lambda) for s in body for n in ast.walk(s))


@pytest.mark.parametrize("stage", CONFIGS)
def test_component_defaults_are_those_of_its_config(stage: str) -> None:
    component = getattr(importlib.import_module(f"undercut.{stage}.component"), stage)
    module, name = CONFIGS[stage]
    config = getattr(importlib.import_module(module), name)
    signature = inspect.signature(component.python_func).parameters
    for field in fields(config):
        assert field.name in signature, f"{stage} has no parameter {field.name}"
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        assert signature[field.name].default == default, field.name


@pytest.mark.parametrize("stage", COMPONENTS)
def test_every_argument_is_described(stage: str) -> None:
    component = getattr(importlib.import_module(f"undercut.{stage}.component"), stage)
    described = component.python_func.__doc__
    for name in inspect.signature(component.python_func).parameters:
        assert f"        {name}: " in described, name


def test_nothing_is_unpickled_and_no_foreign_code_runs() -> None:
    forbidden = {"pickle", "joblib", "cloudpickle", "dill", "trust_remote_code", "torch.load", "torch.save"}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [f"{node.value.id}.{node.attr}"]
            elif isinstance(node, ast.keyword):
                names = [node.arg or ""]
            found += [f"{path.name}: {name}" for name in names if name in forbidden]
    assert found == []
