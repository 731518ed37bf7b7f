"""The registry: every recipe has one name and one family, and survives JSON."""

from __future__ import annotations

import json

import pytest

from edgegrain.training.family import describe, families, family_of, list_recipes, recipes
from edgegrain.training.recipe import Chain

SINGLE = {name: recipe for name, recipe in recipes().items() if not isinstance(recipe, Chain)}


def test_names_are_unique() -> None:
    assert len(SINGLE) == sum(len(family.recipes) for family in families())


def test_every_recipe_is_listed_with_its_family_once() -> None:
    lines = list_recipes().splitlines()
    found = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert found.keys() == recipes().keys() and len(found) == sum(line.startswith("  ") for line in lines)
    assert lines.index("") <= 13  # at most twelve are the product's own
    assert "stage 3" in found["stage3-1024-lr16-paper"] and "trains fusion" in found["stage3-1024-lr16-paper"]
    assert found["irn-x4"].endswith("IRN 4x, 8+8 InvBlocks, 50,000 iterations of 16 crops of 144x144")
    assert found["glean-1024-x8"].endswith("GLEAN  1024x1024 from 128x128, 300,000 iterations of 8")


@pytest.mark.parametrize("name", SINGLE)
def test_the_description_is_the_configuration(name: str) -> None:
    described = json.loads(json.dumps(describe(recipes()[name])))
    assert family_of(recipes()[name]).recipe_class.from_dict(described["config"]) == recipes()[name]
    assert described["pictures"] > 0 and described["evaluate_every"] in (1000, 4000, 20_000)
