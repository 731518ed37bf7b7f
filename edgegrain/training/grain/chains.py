"""The recipes of all four stages of GRAIN, trained one after the other ([GRAIN] 3.5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.stages import GrainRecipe

STAGES = ("stage1", "stage2", "stage3", "final")


@dataclass(frozen=True)
class Chain:
    """Four stages, each beginning with the result of the one before.

    Attributes:
        stages: the recipe of every stage by its name.
        shares: percent of the time budget for each stage.
    """

    stages: dict[str, GrainRecipe] = field(default_factory=dict)
    shares: tuple[float, ...] = (50.0, 15.0, 10.0, 25.0)

    def __post_init__(self) -> None:
        if len(self.shares) != len(STAGES) or min(self.shares) <= 0:
            raise ValueError(f"shares are four positive numbers, such as 50,15,10,25, got {list(self.shares)}")

    def with_stage(self, name: str, recipe: GrainRecipe) -> Chain:
        """A copy with another recipe for one stage."""
        return replace(self, stages={**self.stages, name: recipe})


def _chains() -> dict[str, Chain]:
    found: dict[str, dict[str, GrainRecipe]] = {}
    for name, recipe in GRAIN_RECIPES.items():
        for stage in STAGES:
            if stage in name.split("-"):
                chain = "-".join(part for part in name.split("-") if part != stage)
                found.setdefault(chain, {})[stage] = recipe
    return {name: Chain(stages) for name, stages in found.items() if tuple(stages) == STAGES}


CHAINS: dict[str, Chain] = _chains()
"""Name -> chain: ``"faces-256-lr16"`` for ``"stage1-faces-256-lr16"`` ... ``"final-faces-256-lr16"``."""
