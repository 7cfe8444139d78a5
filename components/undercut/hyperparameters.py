"""Hyperparameters that one step found, put into the Config of another."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from undercut.errors import ConfigurationError

Config = TypeVar("Config")


def with_hyperparameters(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` (a dataclass) with ``values`` in it.

    A pipeline hands numbers on as floats: a whole one becomes an int where the field holds an int.

    Raises:
        ConfigurationError: a name that the Config does not have, or a value of another type.
    """
    current = {field.name: getattr(config, field.name) for field in fields(config)}  # type: ignore[arg-type]
    cast = {}
    for name, value in values.items():
        if name not in current:
            raise ConfigurationError(f"hyperparameters.{name}", value, f"one of {', '.join(current)}")
        cast[name] = _cast(name, value, type(current[name]))
    return replace(config, **cast)  # type: ignore[type-var]


def _cast(name: str, value: object, kind: type) -> object:
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool) and kind(value) == value:
        return kind(value)
    allowed = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
    raise ConfigurationError(f"hyperparameters.{name}", value, allowed)
