"""A pipeline file: the one pipeline in it, its inputs, its checks, and how many steps it runs."""

import difflib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from undercut.cluster.options import CompileOptions, compiling
from undercut.errors import ConfigurationError

# KFP's names of types, as they stand in compiled pipelines, and what a person calls them.
TYPES = {
    "STRING": "text",
    "NUMBER_INTEGER": "whole number",
    "NUMBER_DOUBLE": "number",
    "BOOLEAN": "true or false",
    "LIST": "list",
    "STRUCT": "mapping",
}


LONG = 300  # characters of a default in a description


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a pipeline; ``default`` is None where a value has to be given."""

    name: str
    kind: str
    default: Any
    description: str

    @property
    def required(self) -> bool:
        """Tell whether the input has no default."""
        return self.default is None


@dataclass(frozen=True, kw_only=True)
class PipelineFile:
    """A loaded pipeline file."""

    path: Path
    module: ModuleType
    pipeline: GraphComponent
    inputs: Mapping[str, Input]

    @property
    def name(self) -> str:
        """Return the pipeline's name."""
        return str(self.pipeline.pipeline_spec.pipeline_info.name)

    @property
    def description(self) -> str:
        """Return the first paragraph of the pipeline's docstring."""
        return str(self.pipeline.description or "").split("\n\n")[0]

    @property
    def uris(self) -> Sequence[str]:
        """Return the inputs that are paths or URIs (``URIS`` in the file): pinned by content before a run."""
        return tuple(getattr(self.module, "URIS", ()))

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the file's own ``check_arguments`` gives them back, if it has one."""
        check = getattr(self.module, "check_arguments", None)
        return dict(arguments) if check is None else dict(check(arguments))

    def compile(self, target: Path, arguments: Mapping[str, Any]) -> None:
        """Write the compiled pipeline; ``arguments`` become its defaults.

        KFP's form shows each input's name and type alone, and the pipeline's description above them: that
        therefore says what each input means.
        """
        lines = [
            f"- {i.name} ({_about(i, arguments.get(i.name, i.default))}): {i.description}" for i in self.inputs.values()
        ]
        self.pipeline.pipeline_spec.pipeline_info.description = "\n".join([self.description, "", "Inputs:", *lines])
        compiler.Compiler().compile(self.pipeline, str(target), pipeline_parameters=dict(arguments) or None)

    def steps(self, arguments: Mapping[str, Any]) -> int:
        """Return how many steps a run with these arguments takes, on the longer branch of each condition."""
        return _steps(self.pipeline.pipeline_spec.root.dag, self.pipeline.pipeline_spec.components, arguments)


def load_pipeline(path: str, options: CompileOptions | None = None) -> PipelineFile:
    """Load a pipeline file.

    Args:
        path: the file.
        options: what it is compiled for Kubeflow with; None where it runs on this machine.

    Raises:
        ConfigurationError: there is no such file, or not exactly one pipeline in it.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigurationError("pipeline", path, "a Python file with a pipeline", _nearby(file))
    spec = importlib.util.spec_from_file_location(f"undercut_pipeline_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigurationError("pipeline", path, "a Python file (.py)", "Compiled YAML runs on a cluster, not here")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with compiling(options):
        spec.loader.exec_module(module)
    found = {v.name: v for v in vars(module).values() if isinstance(v, GraphComponent)}
    if len(found) != 1:
        raise ConfigurationError("pipeline", path, f"a file with one pipeline (it has {len(found)})")
    (pipeline,) = found.values()
    return PipelineFile(path=file, module=module, pipeline=pipeline, inputs=_inputs(pipeline))


def _about(item: Input, value: Any) -> str:
    shown = "" if value in (None, "", [], {}) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    default = f"default {shown if len(shown) <= LONG else shown[:LONG] + ' …'}" if shown else "default empty"
    return f"{TYPES[item.kind]}; {'required' if value is None else default}"


def _nearby(file: Path) -> str:
    known = [str(p) for p in sorted(file.parent.glob("*.py"))] if file.parent.is_dir() else []
    close = difflib.get_close_matches(str(file), known, n=1, cutoff=0.3) or known[:1]
    return f"Did you mean {close[0]}" if close else "Give its path, for example pipelines/lifecycle.py"


def _inputs(pipeline: GraphComponent) -> dict[str, Input]:
    from google.protobuf import json_format

    content = json_format.MessageToDict(pipeline.pipeline_spec.root.input_definitions).get("parameters", {})
    order = list(pipeline.component_spec.inputs or {})
    return {
        name: Input(
            name=name,
            kind=content[name]["parameterType"],
            default=_default(content[name]),
            description=" ".join(content[name].get("description", "").split()),
        )
        for name in order
    }


def _default(content: Mapping[str, Any]) -> Any:
    """Return an input's default; compiled pipelines hold whole numbers as floats."""
    value = content.get("defaultValue")
    return int(value) if value is not None and content["parameterType"] == "NUMBER_INTEGER" else value


def _steps(dag: Any, components: Mapping[str, Any], arguments: Mapping[str, Any]) -> int:
    total, conditional = 0, [0]
    for task in dag.tasks.values():
        inner = components[task.component_ref.name]
        count = _steps(inner.dag, components, arguments) if inner.HasField("dag") else 1
        if task.HasField("parameter_iterator"):
            items = task.parameter_iterator.items
            name = items.input_parameter
            over = task.inputs.parameters[name].component_input_parameter if name else ""
            count *= len(arguments.get(over, [0]))
        if task.trigger_policy.condition:
            conditional.append(count)
        else:
            total += count
    return total + max(conditional)
