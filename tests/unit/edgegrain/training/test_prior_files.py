"""The generator of a stage: whole or rounded as the recipe says, refused by recipes without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codec_contract.errors import EdgegrainError
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.prior_files import recipe_prior
from server_decoder.grain.presets import PRESETS
from server_decoder.mobile_stylegan import MobileStyleGAN, save_mobile_stylegan


def test_a_compact_prior_is_rounded_and_another_is_not(tmp_path: Path) -> None:
    preset = PRESETS["grain-smoke-mobile"]
    original = MobileStyleGAN(preset.prior.network)
    save_mobile_stylegan(original, tmp_path / "prior.safetensors")
    whole = replace(GRAIN_RECIPES["smoke-stage2"], decoder=preset)
    compact = replace(whole, decoder=replace(preset, prior=replace(preset.prior, compact=True)))
    weight = "conv.conv.weight"
    for recipe, levels in ((whole, None), (compact, 127)):
        loaded = recipe_prior(recipe, tmp_path / "prior.safetensors").state_dict()[weight]
        assert torch.equal(loaded, original.state_dict()[weight]) == (levels is None)
        if levels:  # every row: integers times its peak / 127
            steps = loaded / (loaded.abs().amax((1, 2, 3), keepdim=True) / levels)
            assert (steps - steps.round()).abs().max() < 1e-3
            torch.testing.assert_close(loaded, original.state_dict()[weight], atol=0.02, rtol=0)


def test_the_shipped_recipes_learn_around_the_generator_that_ships() -> None:
    for name in ("stage2-faces-256-lr16", "stage3-faces-256-lr16", "final-faces-256-lr16"):
        assert GRAIN_RECIPES[name].decoder.prior.compact


def test_a_generator_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert recipe_prior(GRAIN_RECIPES["smoke-stage2"], None) is None  # trial runs have a random one
    with pytest.raises(EdgegrainError, match="leave --prior out"):
        recipe_prior(GRAIN_RECIPES["stage1-faces-256-lr16"], tmp_path / "prior.safetensors")
    with pytest.raises(EdgegrainError, match="needs a StyleGAN2"):
        recipe_prior(GRAIN_RECIPES["stage2-1024-lr16-paper"], None)


@pytest.mark.parametrize("domain", ["cats", "churches"])
def test_another_domain_never_learns_around_the_generator_of_faces(domain: str) -> None:
    with pytest.raises(EdgegrainError, match=f"makes faces; pass --prior with the file of one that makes {domain}"):
        recipe_prior(GRAIN_RECIPES[f"stage2-{domain}-256-lr16"], None)
