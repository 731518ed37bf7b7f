"""Small changes of training pictures: shifts by whole pixels, colours as a camera might have them, each its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from codec_contract.errors import EdgegrainError
from edgegrain.training.changes import changed
from edgegrain.training.grain.jitter import SHIFT, jitter, recoloured, shifted
from edgegrain.training.recipes import find_recipe


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(4)


def test_shifts_are_windows_of_the_mirrored_picture() -> None:
    pictures = torch.randint(256, (12, 3, 64, 64)).float()
    most = int(SHIFT * 64)
    assert most == 2
    padded = F.pad(pictures, (most,) * 4, mode="reflect")
    found = shifted(pictures)
    assert found.shape == pictures.shape
    corners = set()
    for index in range(12):
        matches = [(y, x) for y in range(5) for x in range(5)
                   if torch.equal(found[index], padded[index, :, y : y + 64, x : x + 64])]
        assert len(matches) == 1
        corners.update(matches)
    assert len(corners) > 6


def test_colours_stay_integers_and_some_pictures_as_they_are() -> None:
    pictures = torch.randint(256, (400, 3, 4, 4)).float()
    found = recoloured(pictures)
    assert torch.equal(found, found.round()) and found.min() >= 0 and found.max() <= 255
    kept = sum(torch.equal(one, other) for one, other in zip(pictures, found, strict=True))
    assert 25 < kept < 80  # an eighth
    brighter = (found - pictures).mean((1, 2, 3))
    assert abs(brighter.mean()) < 2 and 3 < brighter.std() < 12


def test_greys_stay_grey() -> None:
    pictures = torch.randint(256, (50, 1, 8, 8)).float().expand(-1, 3, -1, -1)
    found = jitter(pictures)
    assert (found - found[:, :1]).abs().max() <= 1  # a float on a rounding boundary may fall to either side


def test_a_recipe_with_jitter() -> None:
    recipe = find_recipe("smoke-stage1")
    assert changed(recipe, ["jitter=true"]).jitter and not recipe.jitter
    with pytest.raises(EdgegrainError, match="expected true or false"):
        changed(recipe, ["jitter=maybe"])
