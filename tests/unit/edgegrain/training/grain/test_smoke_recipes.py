"""Every stage's trial recipe learns: its figures pass a bound that the untrained network misses.

The bounds lie half-way between what untrained and trained networks reached when they were written.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.loop import train
from tests.unit.edgegrain.conftest import rows

PSNR = {"smoke-stage1": 17.0, "smoke-stage2": 10.0, "smoke-stage3": 14.0, "smoke-final": 17.0}
CODES = 1.17  # in units of the variance of W


@pytest.mark.parametrize("name", PSNR)
def test_the_recipe_learns(name: str, tmp_path: Path) -> None:
    recipe = GRAIN_RECIPES[name]
    untrained = train(recipe, tmp_path / "untrained", pictures=0)
    trained = train(recipe, tmp_path / "trained")
    assert untrained["psnr"] < PSNR[name] < trained["psnr"]
    if name == "smoke-stage2":
        assert trained["codes"] < CODES < untrained["codes"]
    if name == "smoke-final":
        terms = rows(tmp_path / "trained", "loss")[-1]
        assert {"adversarial", "discriminator", "lr"} <= set(terms)
