"""Recipes: frozen dataclasses, their plain JSON values, and their changes from the command line."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from codec_contract.errors import EdgegrainError
from server_decoder.grain.grain import PriorConfig

Config = TypeVar("Config")

_LEAST = {"batch": 1, "clip_gradient": 0, "crop": 1, "learning_rate": 0, "pictures": 0, "random_pictures": 0}


def check(*rules: tuple[bool, str]) -> None:
    """Raise a ValueError with the message of the first rule that does not hold."""
    for holds, message in rules:
        if not holds:
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The base of all recipes.

    Attributes:
        batch: pictures per step and process.
        learning_rate: of Adam.
        warm_up: steps over which it rises at the beginning of every session, while Adam's moments are young.
        ema: decay of the averaged weights, which are evaluated and stored; 0 for none.
        seed: of the random numbers.
    """

    batch: int = 8
    learning_rate: float = 1e-4
    warm_up: int = 1
    ema: float = 0.999
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name, least)
            check((value >= least, f"{name} is at least {least}, got {value}"))  # nan is not either

    @property
    def prior(self) -> PriorConfig | None:
        """The description of the frozen generator in the networks; None without one."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        network: Any = getattr(self, "network", None)
        return asdict(self) | ({"network": network.as_dict()} if hasattr(network, "as_dict") else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `as_dict` described. Absent fields have their defaults."""
        return config_from_dict(cls, values)


@dataclass(frozen=True, kw_only=True)
class RestorationRecipe(Recipe):
    """The base of the recipes of networks that restore pictures: GRAIN, GLEAN, GCFSR and enlargers.

    Attributes:
        muon: learning rate of Muon for the weights that are matrices, in multiples of ``learning_rate``; 0 trains them
            with AdamW, as all others.
        hold: part of the run at the full learning rate; the rest anneals to a hundredth (cosine).
        clip_gradient: largest norm of a step's gradient; 0: any.
        lpips_shift: part of the steps, 0...1, in which LPIPS compares the pictures at a random offset
            (`edgegrain.training.losses.random_offset`).
        random_pictures: number of random pictures when no data is given (trial runs).
    """

    muon: float = 0.0
    hold: float = 0.0
    clip_gradient: float = 0.0
    lpips_shift: float = 0.0
    random_pictures: int = 0


def continued(recipe: Config, **stored: Any) -> Config:
    """The recipe with these values of the run that it continues, such as shapes of networks."""
    try:
        return replace(recipe, **stored)  # type: ignore[type-var]
    except ValueError as error:
        raise EdgegrainError(f"the recipe does not fit the run that it continues: {error}") from error


def config_from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The frozen dataclass that ``dataclasses.asdict`` or ``as_dict`` wrote.

    Absent fields have their defaults, those of other versions are left out; of a union, the class that has most counts.
    """
    kinds, known = get_type_hints(kind), {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _value(kinds[name], value) for name, value in values.items() if name in known})


def _value(kind: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        classes = (part for part in (kind, *get_args(kind)) if is_dataclass(part))
        nested: Any = max(classes, key=lambda part: len(value.keys() & {field.name for field in fields(part)}))
        return nested.from_dict(value) if hasattr(nested, "from_dict") else config_from_dict(nested, value)
    return tuple(value) if isinstance(value, list) else value


def changed(recipe: Any, changes: Iterable[str] = (), *, batch: int = 0, seed: int | None = None) -> Any:
    """A recipe with another batch or seed, and with changes ``PATH=VALUE``, the path with dots into nested dataclasses,
    values by the field's type: the elements of tuples are separated by commas, ``none`` means None."""
    texts = {}  # path of each changed field -> its text
    for change in changes:
        path, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise EdgegrainError(f"--set takes FIELD=VALUE, got {change!r}")
        texts[path] = text
    if batch:
        recipe = _with_batch(recipe, batch)
    return _with_fields(recipe if seed is None else replace(recipe, seed=seed), texts)


def _with_batch(recipe: Any, batch: int) -> Any:
    """The learning rate grows with the square root of the batch, as Adam's steps do (Malladi et al., NeurIPS 2022); the
    averaged weights look back over as many pictures as before, and the run sees as many."""
    times = batch / recipe.batch
    changes: dict[str, Any] = {"batch": batch, "learning_rate": recipe.learning_rate * times**0.5}
    if recipe.ema < 1:  # a decay per step; StyleGAN2's recipes have a half-life in pictures
        changes["ema"] = recipe.ema**times
    if hasattr(recipe, "iterations"):
        changes["iterations"] = math.ceil(recipe.iterations / times)
    try:
        return replace(recipe, **changes)
    except ValueError as error:
        raise EdgegrainError(f"--batch {batch}: {error}") from error


def _with_fields(config: Any, texts: Mapping[str, str], path: str = "") -> Any:
    """All changes of a dataclass at once, as some make sense together only."""
    known, values = [field.name for field in fields(config)], {}
    try:
        for name in dict.fromkeys(each.partition(".")[0] for each in texts):
            if name not in known:
                raise ValueError(f"no field {name!r}; the fields are {', '.join(known)}")
            below = {each.partition(".")[2]: text for each, text in texts.items() if each.partition(".")[0] == name}
            value, text = getattr(config, name), below.pop("", None)
            if text is not None and below:
                raise ValueError(f"fields of {name} are set too")
            if text is not None:
                values[name] = _parse(get_type_hints(type(config))[name], text)
            elif is_dataclass(value):
                values[name] = _with_fields(value, below, f"{path}{name}.")
            else:
                raise ValueError(f"{name} is {value!r} and has no fields of its own")
        return replace(config, **values)
    except ValueError as error:
        given = ", ".join(f"{path}{each}={text}" for each, text in texts.items())
        raise EdgegrainError(f"--set {given}: {error}") from error


def _parse(kind: Any, text: str) -> Any:
    """The value of a field of this type; raises ValueError if the text is none."""
    arguments = get_args(kind)
    if type(None) in arguments and text.lower() == "none":
        return None
    if get_origin(kind) in (Union, types.UnionType):
        kind, *more = [argument for argument in arguments if argument is not type(None)]
        kind, arguments = (None, ()) if more else (kind, get_args(kind))
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        kinds = [arguments[0]] * len(parts) if arguments[-1] is ... else list(arguments)
        if len(parts) != len(kinds):
            raise ValueError(f"expected {len(kinds)} values with commas between them")
        return tuple(_parse(part_kind, part) for part_kind, part in zip(kinds, parts, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"expected true or false, got {text!r}")
        return text.lower() == "true"
    if kind not in (int, float, str):
        raise ValueError("the field has fields of its own; set one of them, as in FIELD.NAME=VALUE")
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text!r}")
    return value
