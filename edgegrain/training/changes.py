"""Changes of a recipe from the command line: single fields (``loss.rate=0.05``), the batch and the seed."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Union, get_args, get_origin, get_type_hints

from codec_contract.errors import EdgegrainError
from edgegrain.training.grain.chains import Chain

_Tree = dict[str, "str | _Tree"]


def changed(recipe: Any, changes: Iterable[str] = (), *, batch: int = 0, seed: int | None = None) -> Any:
    """A recipe or chain with changes.

    Args:
        recipe: from `edgegrain.training.recipes`.
        changes: as in `with_changes`. For a chain they apply to every stage, or to one if the path begins with its
            name (``final.loss.rate=0.05``); ``shares`` is the chain's own field.
        batch: as in `with_batch`; 0 for the recipe's.
        seed: of the random numbers; None for the recipe's.

    Raises:
        EdgegrainError: as in `with_changes` and `with_batch`.
    """
    if isinstance(recipe, Chain):
        own = [change for change in changes if change.startswith("shares=")]
        recipe = with_changes(recipe, own)
        for stage, stage_recipe in recipe.stages.items():
            of_stage = [change.removeprefix(f"{stage}.") for change in changes if change not in own
                        and (change.startswith(f"{stage}.") or change.split(".")[0] not in recipe.stages)]
            recipe = recipe.with_stage(stage, changed(stage_recipe, of_stage, batch=batch, seed=seed))
        return recipe
    if batch:
        recipe = with_batch(recipe, batch)
    return with_changes(recipe if seed is None else replace(recipe, seed=seed), changes)


def with_changes(recipe: Any, changes: Iterable[str]) -> Any:
    """A copy of a recipe or chain with changed fields.

    Args:
        recipe: or a chain.
        changes: ``PATH=VALUE`` each, the path with dots into nested dataclasses. Values are parsed by the field's type;
            the elements of tuples are separated by commas, ``none`` means None.

    Raises:
        EdgegrainError: there is no such field, or the value is not of its type or makes no sense for the recipe.
    """
    tree: _Tree = {}
    for change in changes:
        path, found, text = (part.strip() for part in change.partition("="))
        if not found:
            raise EdgegrainError(f"--set takes FIELD=VALUE, got {change!r}")
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            below = node.setdefault(parent, {})
            if isinstance(below, str):
                raise EdgegrainError(f"--set {change}: {parent} itself is set too")
            node = below
        if isinstance(node.get(name), dict):
            raise EdgegrainError(f"--set {change}: fields of {name} are set too")
        node[name] = text
    return _with_fields(recipe, tree, "")


def with_batch(recipe: Any, batch: int) -> Any:
    """A recipe with another batch per process.

    The learning rate grows with the square root of the batch, as Adam's steps do (Malladi et al., NeurIPS 2022), the
    averaged weights look back over as many pictures as before, and the run sees as many.

    Raises:
        EdgegrainError: the recipe does not allow that batch.
    """
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


def _with_fields(config: Any, tree: _Tree, path: str) -> Any:
    """All changes of a dataclass at once, as some make sense together only."""
    known, values = [field.name for field in fields(config)], {}
    for name, change in tree.items():
        where = f"--set {path}{name}"
        if name not in known:
            raise EdgegrainError(f"{where}: no field {name!r}; the fields are {', '.join(known)}")
        value = getattr(config, name)
        if isinstance(change, str):
            try:
                values[name] = _parse(get_type_hints(type(config))[name], change)
            except ValueError as error:
                raise EdgegrainError(f"{where}={change}: {error}") from error
        elif is_dataclass(value):
            values[name] = _with_fields(value, change, f"{path}{name}.")
        else:
            raise EdgegrainError(f"{where}.{next(iter(change))}: {name} is {value!r} and has no fields of its own")
    try:
        return replace(config, **values)
    except ValueError as error:
        raise EdgegrainError(f"--set {', '.join(path + name for name in values)}: {error}") from error


def _parse(kind: Any, text: str) -> Any:
    """The value of a field of this type.

    Raises:
        ValueError: the text is none.
    """
    arguments = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        kinds = [argument for argument in arguments if argument is not type(None)]
        if len(kinds) == 1:
            return _parse(kinds[0], text)
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        kinds = [arguments[0]] * len(parts) if arguments[-1] is ... else list(arguments)
        if len(parts) != len(kinds):
            raise ValueError(f"expected {len(kinds)} values with commas between them, got {text!r}")
        return tuple(_parse(part_kind, part) for part_kind, part in zip(kinds, parts, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"expected true or false, got {text!r}")
        return text.lower() == "true"
    if kind in (int, float, str):
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {text!r}")
        return value
    raise ValueError("the field has fields of its own; set one of them, as in FIELD.NAME=VALUE")
