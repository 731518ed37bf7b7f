"""The registry: every recipe has one name and one family, and survives JSON."""

from __future__ import annotations

import json

import pytest

from edgegrain.training.grain.chains import CHAINS
from edgegrain.training.recipes import FAMILIES, RECIPES, describe, family_of, list_recipes


def test_names_are_unique() -> None:
    assert len(RECIPES) == sum(len(family.recipes) for family in FAMILIES)
    assert not set(RECIPES) & set(CHAINS)


def test_every_recipe_is_listed_with_its_family() -> None:
    lines = list_recipes().splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [*CHAINS, *RECIPES]
    found = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert "stage 3" in found["stage3-1024-lr16-paper"] and "trains fusion" in found["stage3-1024-lr16-paper"]
    assert found["irn-x4"].endswith("IRN 4x, 8+8 InvBlocks, 50,000 iterations of 16 crops of 144x144")
    assert found["glean-1024-x8"].endswith("GLEAN  1024x1024 from 128x128, 300,000 iterations of 8")


@pytest.mark.parametrize("name", RECIPES)
def test_the_description_is_the_configuration(name: str) -> None:
    described = json.loads(json.dumps(describe(RECIPES[name])))
    assert family_of(RECIPES[name]).recipe_class.from_dict(described["config"]) == RECIPES[name]
    assert described["pictures"] > 0 and described["evaluate_every"] in (1000, 4000, 20_000)
