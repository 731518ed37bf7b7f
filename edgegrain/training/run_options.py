"""The options that the training commands share, and a recipe by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import typer

from codec_contract.errors import EdgegrainError
from edgegrain.training.distributed import DEVICES

Recipe = TypeVar("Recipe")

ConfigOption = Annotated[str, typer.Option(help="Recipe; --list-configs names them.")]
BudgetOption = Annotated[float, typer.Option(min=0, help="End the run after this time at the latest; 0: no limit.")]
SaveOption = Annotated[int, typer.Option(min=1, help="Pictures between checkpoints, each with a sheet.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")]
DeviceOption = Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}; auto is CUDA where there is one.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the configuration and stop.")]
ListOption = Annotated[bool, typer.Option("--list-configs", help="Name the recipes and stop.")]


def recipe_of(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        EdgegrainError: there is none.
    """
    if name not in recipes:
        raise EdgegrainError(f"no configuration {name!r}; there are {', '.join(recipes)}")
    return recipes[name]
