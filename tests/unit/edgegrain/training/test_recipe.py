"""Recipes: registered once, read from JSON, changed from the command line."""

import itertools
import json
import math
from typing import Any

import pytest

from codec_contract.errors import EdgegrainError
from edgegrain.training.adversarial import AdversarialConfig, DiscriminatorConfig
from edgegrain.training.family import describe, families, family_of, list_recipes, recipes
from edgegrain.training.recipe import changed, config_from_dict
from server_decoder.stylegan2.networks import CONFIG_F_256


@pytest.mark.parametrize("discriminator", [DiscriminatorConfig(64), CONFIG_F_256])
def test_the_class_that_has_the_fields_is_taken(discriminator: Any) -> None:
    config = AdversarialConfig(discriminator=discriminator)
    values = {"weight": 0.01, "discriminator": vars(discriminator)}
    assert config_from_dict(AdversarialConfig, values) == config
    of_another_version = {**values, "unknown": 1, "discriminator": {**values["discriminator"], "other": 2}}
    assert config_from_dict(AdversarialConfig, of_another_version) == config
    with pytest.raises(ValueError, match="learning_rate is at least 0, got nan"):
        config_from_dict(type(recipes()["smoke-irn"]), {"learning_rate": math.nan})


def test_values_have_the_type_of_their_field() -> None:
    changes = "trains=encoder,decoder loss.rate=0.05 adversarial.every=8 jitter=True domain=cats adversarial.loss=wgan"
    recipe = changed(recipes()["smoke-final"], changes.split())
    assert recipe.trains == ("encoder", "decoder") and recipe.loss.rate == 0.05
    assert recipe.adversarial.every == 8 and recipe.adversarial.loss == "wgan"
    assert recipe.jitter is True and recipe.domain == "cats"
    assert changed(recipe, ["adversarial=none"]).adversarial is None
    assert changed(recipes()["irn-x4"], ["halve_at=0.5, 0.75", "network.z_std=0.1"]).halve_at == (0.5, 0.75)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("smoke-stage1", "loss.rates=1", "no field 'rates'; the fields are l1, l2, region_gain, lpips"),
        ("smoke-stage1", "batch=many", "invalid literal"),
        ("smoke-stage1", "correction=0", "expected true or false, got '0'"),
        ("smoke-gcfsr-blind", "degradation.sigma=1", "expected 2 values with commas"),
        ("smoke-stage1", "loss=1", "set one of them"),
        ("smoke-stage1", "adversarial.weight=1", "adversarial is None and has no fields"),
        ("smoke-stage1", "batch", "takes FIELD=VALUE"),
        ("smoke-stage1", "stage=5", "unknown stage '5'"),
        ("smoke-stage1", "stage=2", "the others a GrainConfig"),
        ("smoke-stage1", "trains=decoder,codes,fusion", "stage 1 depends on encoder, decoder; trains names"),
        ("smoke-stage1", "trains=generator", "got \\['generator'\\]"),
        ("smoke-stage1", "trains=", "trains names some"),
        ("smoke-stage1", "clip_gradient=-1", "clip_gradient is at least 0"),
        ("smoke-stage1", "lr_step=0", "lr_step is 1...64"),
        ("smoke-stage1", "lr_step=65", "lr_step is 1...64"),
        ("smoke-stage1", "target_bytes=160", r"loss\.rate is steered to target_bytes"),
        ("smoke-stage1", "loss.rate=0.01 correction=false", "loss.rate is for runs that train an encoder"),
        ("stage1-1024-lr16-paper", "encoder.lr=48", "1024 -> 48 is not possible"),
        ("stage3-faces-256-lr16", "loss.rate=0.01", "loss.rate is for runs that train an encoder"),
        ("smoke-stage2", "trains=codes,fusion", "stage 2 depends on encoder, decoder, codes;"),
        ("smoke-stage2", "synthetic=1.5", "part of the batch"),
        ("smoke-stage2", "synthetic=0", "codes of synthetic pictures, and there are none"),
        ("smoke-stage2", "synthetic=0.5 batch=1", "mixes a batch, of 2 pictures at least"),
        ("stage2-faces-256-lr16-fine", "stage=3", "only stage 2"),
        ("stage2-faces-256-lr16-fine", "window=130", "multiple of 16"),
        ("stage2-faces-256-lr16-fine", "window=272", "at most 256"),
        ("prior-cats-256", "network.size=100", "power of two"),
        ("smoke-stage1", "batch=0", "batch is at least 1, got 0"),
        ("smoke-gcfsr", "learning_rate=-1", "learning_rate is at least 0"),
        ("smoke-gcfsr", "learning_rate=nan", "expected a finite number, got 'nan'"),
        ("smoke-gcfsr", "loss.lpips=inf", "expected a finite number, got 'inf'"),
        ("smoke-irn", "crop=0", "crop is at least 1"),
        ("prior-cats-256", "pictures=-1", "pictures is at least 0"),
        ("smoke-final", "adversarial.every=0", "every is at least 1, got 0"),
        ("smoke-final", "adversarial.loss=least-squares", "unknown adversarial loss"),
        ("smoke-final", "adversarial.discriminator.size=2", "size must be a power of two from 4, got 2"),
        ("smoke-final", "adversarial.discriminator.size=48", "power of two"),
        ("smoke-final", "adversarial.discriminator.width=0", "width and widest are at least 1"),
        ("smoke-irn", "crop=34", "no multiple of the factor 4"),
        ("irn-plus-x4", "crop=100", "halves crops 4 times, so their side must be a multiple of 16, got 100"),
        ("smoke-irn-plus", "discriminator=4,8,8,8,8,8", "multiple of 64, got 32"),
        ("smoke-enlarge", "factor=3", "the network enlarges by 2 or 4"),
        ("smoke-enlarge", "size=33", "multiple"),
        ("smoke-enlarge", "window=40", "is not within pictures of 32"),
        ("smoke-gcfsr", "reduction=nearest", "unknown reduction"),
        ("smoke-gcfsr", "factors=none", "needs factors"),
    ],
)
def test_what_is_wrong_is_named(name: str, change: str, message: str) -> None:
    with pytest.raises(EdgegrainError, match=message):
        changed(recipes()[name], change.split())


def test_changes_are_checked_together() -> None:
    recipe = recipes()["final-faces-256-lr16"]
    for changes in itertools.permutations(["loss.rate=0.1", "trains=encoder,decoder"]):
        assert changed(recipe, changes).loss.rate == 0.1
    with pytest.raises(EdgegrainError, match="fields of loss are set too"):
        changed(recipe, ["loss=1", "loss.rate=0.1"])
    with pytest.raises(EdgegrainError, match="fields of adversarial are set too"):
        changed(recipes()["smoke-final"], ["adversarial.weight=0.5", "adversarial=none"])


def test_a_wider_batch_keeps_the_recipes_horizon() -> None:
    recipe = recipes()["final-faces-256-lr16"]
    wide = changed(recipe, batch=64)
    assert (recipe.batch, wide.batch) == (4, 64)
    assert wide.learning_rate == pytest.approx(4 * recipe.learning_rate)
    pictures = 6400  # however they are batched, the averaged weights forget as much
    assert wide.ema ** (pictures / wide.batch) == pytest.approx(recipe.ema ** (pictures / recipe.batch))
    with pytest.raises(EdgegrainError, match=r"--batch 1: synthetic=0\.25 mixes a batch"):
        changed(recipes()["stage2-faces-256-lr16"], batch=1)
    irn = changed(recipes()["irn-x4"], batch=64)
    assert irn.iterations * irn.batch == recipes()["irn-x4"].iterations * recipes()["irn-x4"].batch
    assert irn.ema == 0
    prior, wide = (changed(recipes()["prior-cats-256"], batch=batch) for batch in (16, 64))
    assert prior.ema == wide.ema and wide.learning_rate == 2 * prior.learning_rate  # a half-life in pictures


def test_every_recipe_is_listed_once() -> None:
    listed = [line.strip() for line in list_recipes().splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(recipes())
    assert len(recipes()) == sum(len(family.recipes) for family in families())


@pytest.mark.parametrize("name", recipes())
def test_the_description_is_the_configuration(name: str) -> None:
    described = json.loads(json.dumps(describe(recipes()[name])))
    assert family_of(recipes()[name]).recipe_class.from_dict(described["config"]) == recipes()[name]
    assert described["pictures"] > 0 and described["evaluate_every"] in (1000, 4000, 20_000)
