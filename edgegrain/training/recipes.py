"""The registry of all recipes: families by the class of their recipes, recipes and chains of stages by name."""

from __future__ import annotations

from typing import Any

from codec_contract.errors import EdgegrainError
from edgegrain.training.family import Family
from edgegrain.training.grain.chains import CHAINS, Chain
from edgegrain.training.grain.trainer import GRAIN
from edgegrain.training.super_resolution.trainer import SUPER_RESOLUTION
from export import papers

FAMILIES: tuple[Family, ...] = (GRAIN, *map(papers.load, papers.TRAINING), SUPER_RESOLUTION)
RECIPES: dict[str, Any] = {name: recipe for family in FAMILIES for name, recipe in family.recipes.items()}
"""Name -> recipe; `CHAINS` has the names of four stages each."""


def family_of(recipe: Any) -> Family:
    """The family of a recipe."""
    return next(family for family in FAMILIES if isinstance(recipe, family.recipe_class))


def find_recipe(name: str) -> Any:
    """The recipe or chain of a name.

    Raises:
        EdgegrainError: there is none.
    """
    if name not in CHAINS and name not in RECIPES:
        raise EdgegrainError(f"there is no recipe {name!r}; edgegrain train --list prints all of them")
    return CHAINS[name] if name in CHAINS else RECIPES[name]


def describe(recipe: Any, pictures: int | None = None, evaluate_every: int = 0, budget_seconds: float = 0
             ) -> dict[str, Any]:
    """The whole configuration of a recipe or chain, plain JSON values; a ``pictures`` of None in it is no limit."""
    if isinstance(recipe, Chain):
        stages = {stage: describe(stage_recipe, pictures, evaluate_every, budget_seconds)
                  for stage, stage_recipe in recipe.stages.items()}
        return {"shares": recipe.shares, "stages": stages}
    family = family_of(recipe)
    return {"family": family.name, "pictures": family.last_picture(recipe, pictures, budget_seconds),
            "evaluate_every": evaluate_every or family.evaluate_every, "config": recipe.as_dict()}


def list_recipes() -> str:
    """A line per recipe, grouped by family."""
    width = max(map(len, [*RECIPES, *CHAINS]))
    lines = ["GRAIN, four stages one after the other"]
    lines += [f"  {name:{width}}  {', '.join(chain.stages)}" for name, chain in CHAINS.items()]
    for family in FAMILIES:
        lines += ["", family.title]
        lines += [f"  {name:{width}}  {family.describe(recipe)}" for name, recipe in family.recipes.items()]
    return "\n".join(lines)
