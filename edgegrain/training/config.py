"""Recipes and their parts as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

Config = TypeVar("Config")


def config_from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The frozen dataclass that ``dataclasses.asdict`` or ``as_dict`` wrote. Absent fields have their defaults.

    Nested dataclasses are read by their own ``from_dict`` if they have one; of a union, the class that has the fields.

    Raises:
        KeyError, TypeError, ValueError: the values describe no such configuration.
    """
    kinds = get_type_hints(kind)
    return kind(**{name: _value(kinds[name], value) for name, value in values.items()})


def _value(kind: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        nested = _class_of([part for part in (kind, *get_args(kind)) if is_dataclass(part)], value)
        return nested.from_dict(value) if hasattr(nested, "from_dict") else config_from_dict(nested, value)
    if isinstance(value, list | tuple):
        return tuple(value)
    return value


def _class_of(kinds: list[Any], value: Mapping[str, Any]) -> Any:
    for kind in kinds:
        if value.keys() - {"kind"} <= {field.name for field in fields(kind)}:
            return kind
    raise KeyError(f"no configuration has the fields {', '.join(value)}")
