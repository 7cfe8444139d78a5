"""Settings that come as a mapping (a user's, or hyperparameters that a step found), put into a stage's Config."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from undercut.errors import ConfigurationError

Config = TypeVar("Config")


def from_arguments(kind: type[Config], arguments: Mapping[str, Any], **mappings: Mapping[str, Any]) -> Config:
    """Return a stage's Config (a dataclass) out of its component's arguments and of mappings.

    Args:
        kind: the Config's class.
        arguments: a value for each of its fields, and anything else beside (``locals()`` of a component).
        mappings: entries that stand in for arguments, by the name of their mapping; the last one is the strongest.

    Raises:
        ConfigurationError: a name that the Config does not have, a value of another type or out of its range.
    """
    values = {field.name: arguments[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    for name, entries in mappings.items():
        values |= _checked(entries, values, name)
    return kind(**values)


def with_hyperparameters(config: Config, entries: Mapping[str, Any], name: str = "hyperparameters") -> Config:
    """Return ``config`` (a dataclass) with ``entries`` in it; ``name`` is the mapping's in messages.

    Raises:
        ConfigurationError: as :func:`from_arguments`.
    """
    current = {field.name: getattr(config, field.name) for field in fields(config)}  # type: ignore[arg-type]
    return replace(config, **_checked(entries, current, name))  # type: ignore[type-var]


def _checked(entries: Mapping[str, Any], current: Mapping[str, Any], mapping: str) -> dict[str, Any]:
    """Return the entries in the fields' types: a pipeline hands whole numbers on as floats."""
    for name in entries:
        if name not in current:
            close = difflib.get_close_matches(name, current, n=1)
            remedy = f"Did you mean {close[0]}" if close else ""
            raise ConfigurationError(f"{mapping}.{name}", entries[name], f"one of {', '.join(current)}", remedy)
    return {name: _cast(f"{mapping}.{name}", value, type(current[name])) for name, value in entries.items()}


def _cast(name: str, value: object, kind: type) -> object:
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool) and kind(value) == value:
        return kind(value)
    allowed = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
    raise ConfigurationError(name, value, allowed)
