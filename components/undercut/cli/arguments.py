"""A pipeline's arguments: from a recipe and from flags, each checked against the pipeline's inputs.

A flag is ``--name value`` or ``--name=value``; ``--bar.minimum 0.9`` sets one entry of a mapping and
leaves the rest as the recipe or the pipeline has it. A list is ``a,b,c`` or YAML; a mapping is YAML or
the path of a YAML file. Relative paths in a recipe are relative to the recipe.
"""

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from undercut import storage
from undercut.cli.pipeline_file import TYPES, Input, PipelineFile
from undercut.errors import ConfigurationError


def resolve(pipeline: PipelineFile, recipe: Path | None, flags: Sequence[str]) -> dict[str, Any]:
    """Return all arguments of a run: defaults, then the recipe, then the flags; paths absolute.

    Raises:
        ConfigurationError: a name is unknown, a value has the wrong type, a required one is missing.
    """
    arguments = merged(pipeline, recipe, flags)
    for known in pipeline.inputs.values():
        if known.required and arguments[known.name] is None:
            remedy = f"Give --{known.name} or put it into the recipe ({known.description.rstrip('.')})"
            raise ConfigurationError(known.name, "", f"a {TYPES[known.kind]}", remedy)
    return arguments


def merged(pipeline: PipelineFile, recipe: Path | None, flags: Sequence[str]) -> dict[str, Any]:
    """Return defaults, recipe and flags together; a required argument that none gives is None.

    Raises:
        ConfigurationError: a name is unknown, or a value has the wrong type.
    """
    arguments = {name: copy.deepcopy(i.default) for name, i in pipeline.inputs.items()}
    if recipe is not None:
        for name, value in read_recipe(recipe).items():
            known = _known(pipeline, name, f"recipe {recipe}")
            _set(arguments, known, [], value, recipe.parent)
            _anchor(arguments, pipeline, name, recipe.parent)
    for name, text in parse_flags(flags):
        first, *rest = name.split(".")
        known = _known(pipeline, first, "flag")
        _set(arguments, known, rest, yaml_value(f"--{name}", text, known, bool(rest)), Path.cwd())
        _anchor(arguments, pipeline, first, Path.cwd())
    return arguments


def pinned(pipeline: PipelineFile, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the content digest on each URI, so that caching sees content, not names.

    Raises:
        ConfigurationError: nothing is there, or it cannot be read.
    """
    uris = {name: storage.pin(arguments[name], name) for name in pipeline.uris if arguments[name]}
    return {**arguments, **uris}


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe: a YAML mapping of pipeline arguments.

    Raises:
        ConfigurationError: there is no such file, or it is no YAML mapping.
    """
    if not path.is_file():
        raise ConfigurationError("recipe", str(path), "a YAML file", "`undercut recipes` lists those that come along")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(error).replace("\n", " ")
        raise ConfigurationError("recipe", str(path), "valid YAML in UTF-8", f"It says: {where}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigurationError("recipe", str(path), "a mapping of argument names to values")
    return content


def recipe_summary(path: Path) -> str:
    """Return a recipe's first comment line: what it is for."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")


def parse_flags(flags: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, text) pairs of ``--name value`` and ``--name=value``; dashes in names become underscores.

    Raises:
        ConfigurationError: something is not a flag, or a flag has no value.
    """
    pairs: list[tuple[str, str]] = []
    remaining = list(flags)
    while remaining:
        flag = remaining.pop(0)
        if not flag.startswith("--") or len(flag) < 3:
            raise ConfigurationError("flag", flag, "--name value", "Quote values that hold spaces")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not remaining:
                raise ConfigurationError(flag, "nothing", "a value after it")
            value = remaining.pop(0)
        pairs.append((name.replace("-", "_"), value))
    return pairs


def yaml_value(field: str, text: str, known: Input, part: bool) -> Any:
    """Return a flag's text as a value; ``part`` is True where it sets one entry of a mapping."""
    if known.kind == "STRING" and not part:
        return text
    if known.kind == "LIST" and not part and not text.lstrip().startswith(("[", "-")):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return _exponent(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(field, text, f"a {TYPES[known.kind]} in YAML") from error


def _exponent(value: Any) -> Any:
    """Return ``3e-4`` as the number it is: YAML 1.1 takes it for a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _known(pipeline: PipelineFile, name: str, where: str) -> Input:
    if name not in pipeline.inputs:
        entries = [
            f"{i.name}.{name}" for i in pipeline.inputs.values() if i.kind == "STRUCT" and name in (i.default or {})
        ]
        close = difflib.get_close_matches(name, pipeline.inputs, n=1) or entries[-1:]
        remedy = f"Did you mean {close[0]}" if close else f"`undercut run {pipeline.path} --help` describes each"
        raise ConfigurationError(f"{where}: {name}", name, ", ".join(pipeline.inputs), remedy)
    return pipeline.inputs[name]


def _set(arguments: dict[str, Any], known: Input, rest: Sequence[str], value: Any, folder: Path) -> None:
    name = known.name
    if rest:
        if known.kind != "STRUCT":
            raise ConfigurationError(".".join((name, *rest)), value, f"--{name} with a {TYPES[known.kind]}")
        entry = arguments[name] = copy.deepcopy(arguments[name] or {})
        for key in rest[:-1]:
            entry = entry.setdefault(key, {})
            if not isinstance(entry, dict):
                raise ConfigurationError(".".join((name, *rest)), value, f"an entry of the mapping {name}")
        entry[rest[-1]] = value
        return
    if known.kind == "STRUCT" and isinstance(value, str):
        value = read_recipe(folder / Path(value).expanduser())
    arguments[name] = _typed(name, value, known)
    if known.kind == "STRUCT" and known.default:
        arguments[name] = _completed(known.default, arguments[name])


def _completed(default: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a mapping of plain values leaves out (the bar); one of tables (prices) stands alone."""
    if any(isinstance(v, dict | list) for v in default.values()):
        return dict(value)
    return {**default, **value}


def _typed(name: str, value: Any, known: Input) -> Any:
    """Return the value in the input's type, or refuse it."""
    if known.kind == "NUMBER_DOUBLE":
        value = _exponent(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and float(value).is_integer()
    accepted = {
        "STRING": isinstance(value, str),
        "NUMBER_INTEGER": whole,
        "NUMBER_DOUBLE": number,
        "BOOLEAN": isinstance(value, bool),
        "LIST": isinstance(value, list),
        "STRUCT": isinstance(value, dict),
    }[known.kind]
    if not accepted:
        example = f"for example {known.default}" if known.default not in (None, "", [], {}) else ""
        raise ConfigurationError(name, value, f"a {TYPES[known.kind]}", example)
    return int(value) if known.kind == "NUMBER_INTEGER" else float(value) if known.kind == "NUMBER_DOUBLE" else value


def _anchor(arguments: dict[str, Any], pipeline: PipelineFile, name: str, folder: Path) -> None:
    """Make a relative path absolute: a step may run elsewhere."""
    value = arguments[name]
    if name in pipeline.uris and value and "://" not in value:
        arguments[name] = os.path.abspath(folder / Path(value).expanduser())
