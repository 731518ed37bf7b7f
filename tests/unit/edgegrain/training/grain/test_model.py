"""Encoder and decoder as one network, and its checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from codec_contract.errors import BundleError, ModelError
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import CHECKPOINT, save_checkpoint
from edgegrain.training.grain.model import Autoencoder, GrainRun, load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES, GrainRecipe
from edgegrain.training.grain.start import adopt, recipe_prior, start_run
from server_decoder.grain.fusion import PictureFusion
from tests.unit.edgegrain.conftest import same


@pytest.mark.parametrize("step", [1, 3])
@torch.no_grad()
def test_a_frozen_encoder_is_exact_under_bfloat16(step: int) -> None:
    model = Autoencoder(replace(GRAIN_RECIPES["smoke-stage1"], trains=("decoder",), lr_step=step))
    picture = torch.randint(0, 256, (4, 3, 64, 64)).float()
    exact, _ = model.encode(picture)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(picture)[0], exact)
        model.encoder.requires_grad_(True)
        assert not torch.equal(model.encode(picture)[0], exact)  # else this test would prove nothing


CONFIG = GRAIN_RECIPES["smoke-final"]


@pytest.fixture
def run() -> GrainRun:
    torch.manual_seed(3)
    begun = start_run(CONFIG, None, recipe_prior(CONFIG, None))
    begun.adversarial = AdversarialLoss(CONFIG.adversarial)
    begun.pictures = 40
    begun.history = ({"stage": "1", "pictures": 12},)
    return begun


def test_a_run_is_read_as_it_was_saved(run: GrainRun, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, run)
    loaded = load_run(tmp_path, run.model.prior)
    assert same(loaded.model, run.model) and same(loaded.average, run.average)
    assert same(loaded.adversarial.discriminator, run.adversarial.discriminator)  # type: ignore[union-attr]
    assert (loaded.pictures, loaded.history, loaded.recipe) == (40, run.history, CONFIG)


def test_the_generator_is_in_no_checkpoint_and_another_is_refused(run: GrainRun, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, run)
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert not [name for name in file.keys() if "prior" in name]
    with pytest.raises(ModelError, match="file is needed"):
        load_run(tmp_path)
    with pytest.raises(ModelError, match="another generator"):
        load_run(tmp_path, recipe_prior(replace(CONFIG, seed=9), None))


def test_each_stage_begins_with_the_one_before(tmp_path: Path) -> None:
    prior = recipe_prior(CONFIG, None)
    one = start_run(GRAIN_RECIPES["smoke-stage1"], None)
    one.pictures = 12
    save_checkpoint(tmp_path / "one", one)
    torch.manual_seed(7)
    two = start_run(GRAIN_RECIPES["smoke-stage2"], tmp_path / "one", prior)
    assert two.history == ({"stage": "1", "pictures": 12},)
    assert same(two.model.parts()["decoder"], one.average.decoder)
    assert same(two.model.encoder, one.average.encoder)
    two.pictures = 30
    save_checkpoint(tmp_path / "two", two)
    three = start_run(GRAIN_RECIPES["smoke-stage3"], tmp_path / "two", prior)
    assert three.history == two.stages == (*two.history, {"stage": "2", "pictures": 30})
    against_grids = replace(two, recipe=replace(two.recipe, loss=replace(two.recipe.loss, grid=2.0)))
    assert against_grids.stages[-1] == {"stage": "2", "pictures": 30, "grid": 2.0}
    assert same(three.model.parts()["codes"], two.average.parts()["codes"])
    save_checkpoint(tmp_path / "three", three)
    of_pictures = replace(CONFIG.decoder, fusion=replace(CONFIG.decoder.fusion, kind="pictures"))
    pictures = replace(GRAIN_RECIPES["smoke-stage3"], decoder=of_pictures)
    torch.manual_seed(8)
    other = start_run(pictures, tmp_path / "three", prior)
    assert isinstance(other.model.parts()["fusion"], PictureFusion)  # a new one, around the codes that were trained
    assert same(other.model.parts()["codes"], three.average.parts()["codes"])
    save_checkpoint(tmp_path / "codes", start_run(GRAIN_RECIPES["smoke-stage2"], tmp_path / "three", prior))
    torch.manual_seed(9)
    fused = start_run(GRAIN_RECIPES["smoke-stage3"], tmp_path / "codes", prior)
    assert same(fused.model.parts()["fusion"], three.average.parts()["fusion"])  # trained before the codes went on
    control = start_run(replace(GRAIN_RECIPES["smoke-final"], correction=False), tmp_path / "three", prior)
    assert not control.recipe.correction
    assert not list(control.model.encoder.parameters())
    assert same(control.model.decoder, three.average.decoder)
    with pytest.raises(BundleError, match="whole GRAIN"):
        start_run(GRAIN_RECIPES["smoke-stage1"], tmp_path / "two")


@pytest.mark.parametrize(
    "name", ["smoke-stage1", "smoke-stage2", "stage1-faces-256-lr32", "stage2-faces-256-lr32", "stage1-1024-lr16-paper"]
)
def test_a_start_of_other_sizes_is_refused_unless_the_recipe_grows(name: str) -> None:
    recipe, source = GRAIN_RECIPES[name], GrainRecipe()
    for fitting in (
        "stage1-faces-256-lr16",
        "stage1-faces-256-lr16-slim",
        "stage1-faces-256-lr64-fine",
        "stage2-faces-256-lr16",
    ):
        assert adopt(GRAIN_RECIPES[fitting], source).encoder == GRAIN_RECIPES[fitting].encoder
    message = f"for pictures of {recipe.encoder.hr}x.* with LRs of {recipe.encoder.lr}x.*, what it starts from is for "
    with pytest.raises(BundleError, match=message + "pictures of 256x256 with LRs of 16x16"):
        adopt(recipe, source)


def test_a_run_keeps_the_step_of_the_levels_that_it_begins_with(tmp_path: Path) -> None:
    first = replace(GRAIN_RECIPES["smoke-stage1"], lr_step=3)
    save_checkpoint(tmp_path, start_run(first, None))
    stage2 = GRAIN_RECIPES["smoke-stage2"]
    begun = start_run(stage2, tmp_path, recipe_prior(stage2, None))
    assert begun.recipe.lr_step == begun.model.lr_step == 3
    assert start_run(replace(first, lr_step=5), tmp_path).model.lr_step == 5
    assert start_run(GRAIN_RECIPES["smoke-stage1"], tmp_path).model.lr_step == 3
    box_means = replace(GRAIN_RECIPES["smoke-stage1"], correction=False, trains=("decoder",))
    assert start_run(box_means, tmp_path).model.lr_step == 1
    assert start_run(replace(box_means, lr_step=5), tmp_path).model.lr_step == 5
