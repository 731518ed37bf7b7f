"""The commands of docs/new_domain.md: every module, option and recipe they name exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import typer

from edgegrain.training.grain.all_stages import recipes
from edgegrain.training.grain.recipes import CONFIGS
from edgegrain.training.stylegan.distillation.recipes import DISTIL_CONFIGS
from edgegrain.training.stylegan.recipes import PRIOR_CONFIGS

RECIPES = {"edgegrain.training.train": CONFIGS, "edgegrain.training.stylegan.command": PRIOR_CONFIGS,
           "edgegrain.training.stylegan.distillation.command": DISTIL_CONFIGS}
STAGES = "edgegrain.training.grain.all_stages"


def _options(module: str) -> set[str]:
    """Every spelling of the options of a module's command."""
    application = typer.Typer()
    application.command()(importlib.import_module(module).main)
    parameters = typer.main.get_command(application).params
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


def test_every_module_option_and_recipe_of_the_page_exists(repository: Path) -> None:
    text = (repository / "docs" / "new_domain.md").read_text().replace("\\\n", " ")
    commands = [shlex.split(line) for line in re.findall(r"^ *python -m (.+)$", text, re.MULTILINE)]
    assert len(commands) >= 12
    for module, *arguments in commands:
        if module == STAGES:
            assert arguments[0] in recipes()
            if "--" in arguments:  # what follows goes to every stage
                split = arguments.index("--")
                passed = {argument for argument in arguments[split:] if argument.startswith("--") and argument != "--"}
                assert passed and passed <= _options("edgegrain.training.train")
                arguments = arguments[:split]
        options = {argument for argument in arguments if argument.startswith("--")}
        assert options <= _options(module), f"{module} has no {sorted(options - _options(module))}"
        if "--config" in arguments:
            assert arguments[arguments.index("--config") + 1] in RECIPES[module]
