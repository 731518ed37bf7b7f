"""Recipes and their parts as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Self, TypeVar, get_args, get_type_hints

from codec_contract.errors import EdgegrainError
from server_decoder.grain.grain import PriorConfig

Config = TypeVar("Config")

_LEAST = {"batch": 1, "clip_gradient": 0, "crop": 1, "learning_rate": 0, "pictures": 0, "random_pictures": 0}

# Earlier names, of stored runs and manifests.
_OLD_NAMES = {"made_up": ("random_pictures", "random_teacher"), "judged": ("evaluated",), "judge": ("discriminator",),
              "judge_alone": ("discriminator_alone",), "losses": ("loss",), "clip": ("clip_gradient",)}


@dataclass(frozen=True)
class Recipe:
    """The base of all recipes: checks of fields that many have, and their plain JSON values."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name, least) >= least:  # nan neither
                raise ValueError(f"{name} is at least {least}, got {getattr(self, name)}")

    @property
    def prior(self) -> PriorConfig | None:
        """The description of the frozen generator in the networks; None without one."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `as_dict` described. Absent fields have their defaults.

        Raises:
            KeyError, TypeError, ValueError: it describes none.
        """
        return config_from_dict(cls, values)


def continued(recipe: Config, **stored: Any) -> Config:
    """The recipe with these values of the run that it continues, such as shapes of networks.

    Raises:
        EdgegrainError: the recipe cannot have them.
    """
    try:
        return replace(recipe, **stored)  # type: ignore[type-var]
    except ValueError as error:
        raise EdgegrainError(f"the recipe does not fit the run that it continues: {error}") from error


def config_from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The frozen dataclass that ``dataclasses.asdict`` or ``as_dict`` wrote, fields with earlier names included.

    Absent fields have their defaults.

    Nested dataclasses are read by their own ``from_dict`` if they have one; of a union, the class that has the fields.

    Raises:
        KeyError, TypeError, ValueError: the values describe no such configuration.
    """
    kinds = get_type_hints(kind)
    renamed = {_current(name, kinds): value for name, value in values.items()}
    return kind(**{name: _value(kinds[name], value) for name, value in renamed.items()})


def _current(name: str, kinds: Mapping[str, Any]) -> str:
    """The present name of a field."""
    return next((other for other in (name, *_OLD_NAMES.get(name, ())) if other in kinds), name)


def _value(kind: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        nested = _class_of([part for part in (kind, *get_args(kind)) if is_dataclass(part)], value)
        return nested.from_dict(value) if hasattr(nested, "from_dict") else config_from_dict(nested, value)
    if isinstance(value, list | tuple):
        return tuple(value)
    return value


def _class_of(kinds: list[Any], value: Mapping[str, Any]) -> Any:
    for kind in kinds:
        known = {field.name: field.type for field in fields(kind)}
        if all(_current(name, known) in known for name in value if name != "kind"):
            return kind
    raise KeyError(f"no configuration has the fields {', '.join(value)}")
