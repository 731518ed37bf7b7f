"""GRAIN's stages and recipes, the paper's included."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from codec_contract.bundle.manifest import RRDB_ENCODER_WEIGHTS, load_manifest
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables, rounded, to_indices
from codec_contract.pixels import dequantize
from edgegrain.papers.grain.rrdb_encoder import TrainedRRDBEncoder
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing import publish
from edgegrain.publishing.publish import publish_run, store_trained
from edgegrain.training.adversarial import DiscriminatorConfig
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.model import Autoencoder, load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES, GrainRecipe, RRDBEncoderConfig
from edgegrain.training.grain.start import start_run
from edgegrain.training.run import train
from export.bundle.writer import write_bundle
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from server_decoder.stylegan2.networks import StyleGAN2Config
from tests.unit.edgegrain.conftest import rows


def test_the_papers_recipes_have_its_weights() -> None:
    """[GRAIN] supplementary 1: L2 1, LPIPS 0.8, identity 0.1, adversarial 0.01; LR 0.1 in stage 1 and at the end."""
    for stage, lr in (("stage1", 0.1), ("stage2", 0.0), ("stage3", 0.0), ("final", 0.1)):
        recipe = GRAIN_RECIPES[f"{stage}-1024-lr16-paper"]
        loss = recipe.loss
        assert (loss.l1, loss.l2, loss.lpips, loss.identity, loss.lr, loss.lr_l2) == (0, 1, 0.8, 0.1, 0, lr)
        assert recipe.adversarial.weight == 0.01
        assert recipe.adversarial.loss == ("relativistic" if stage == "stage1" else "wgan")
        assert isinstance(recipe.adversarial.discriminator, StyleGAN2Config) == (stage != "stage1")


def test_published_encoders_are_kept_and_others_held_to_the_small_picture() -> None:
    """Stage 1, and the final stage for when it is told to train the encoder, have a loss on the LR."""
    for stage in ("stage2", "stage3", "final"):
        assert "encoder" not in GRAIN_RECIPES[f"{stage}-faces-256-lr16"].trains
    assert "encoder" not in GRAIN_RECIPES["stage1-faces-256-lr16-fine"].trains
    for name, recipe in GRAIN_RECIPES.items():
        assert recipe.stage not in ("1", "final") or recipe.loss.lr > 0 or recipe.loss.lr_l2 > 0, name


@pytest.mark.parametrize(
    ("synthetic", "batch", "count"),
    [(0.0, 4, 0), (0.25, 4, 1), (0.25, 2, 1), (0.75, 2, 1), (0.75, 8, 6), (1.0, 4, 4), (1.0, 1, 1)],
)
def test_a_mixed_batch_has_pictures_of_both_kinds(synthetic: float, batch: int, count: int) -> None:
    recipe = GRAIN_RECIPES["smoke-stage2"]
    loss = replace(recipe.loss, codes=recipe.loss.codes if synthetic else 0.0)
    assert replace(recipe, synthetic=synthetic, batch=batch, loss=loss).synthetic_count == count


@pytest.mark.parametrize("lr", [16, 32])
def test_recipes_of_every_bundle_fit_together(lr: int) -> None:
    """Encoder, decoder, generator, codes and fusion agree on sizes, from LR to picture, in every stage."""
    models: dict[tuple[object, object], Autoencoder] = {}
    for stage in ("stage1", "stage2", "stage3", "final"):
        recipe = GRAIN_RECIPES[f"{stage}-faces-256-lr{lr}"]
        networks = recipe.encoder, recipe.decoder
        if networks not in models:  # most stages train the same ones
            with torch.device("meta"):
                models[networks] = Autoencoder(recipe)
                restored = models[networks].decoder(torch.empty(1, 3, lr, lr))
            assert restored.shape == (1, 3, 256, 256)
        assert (recipe.encoder.hr, recipe.encoder.lr) == (256, lr)
        assert set(recipe.trains) <= set(models[networks].parts())


def test_frozen_parts_build_no_graph() -> None:
    """Stage 3 learns the fusion alone: neither codes nor generator may cost a backward pass."""
    model = Autoencoder(GRAIN_RECIPES["smoke-stage3"])
    graphs: list[bool] = []
    for part in (model.decoder.codes, model.decoder.prior, model.decoder.fusion):
        part.register_forward_hook(lambda module, args, out: graphs.append(getattr(out, "picture", out).requires_grad))
    model(torch.zeros(1, 3, 64, 64))
    assert graphs == [False, False, True]


@torch.no_grad()
def test_the_decoder_gets_levels_as_payloads_store_them_and_the_rate_is_that_of_their_indices() -> None:
    recipe = GRAIN_RECIPES["smoke-stage1"]
    model = Autoencoder(replace(recipe, lr_step=3, loss=replace(recipe.loss, rate=0.1)))
    picture = torch.randint(0, 256, (2, 3, 64, 64)).float()
    levels, restored = model.encoder(picture)[0].numpy().astype(np.uint8), model(picture)
    stored = rounded(levels, 3)
    assert not np.array_equal(stored, levels)
    torch.testing.assert_close(restored.lr, dequantize(torch.from_numpy(stored).float()))
    torch.testing.assert_close(restored.rate, model.rate(torch.from_numpy(to_indices(levels, 3)).float()))


def test_an_encoder_learns_through_levels_in_steps() -> None:
    model = Autoencoder(replace(GRAIN_RECIPES["smoke-stage1"], lr_step=5))
    picture = torch.randint(0, 256, (2, 3, 64, 64)).float()
    plain, _ = model.encoder(picture)
    parameters, weights = list(model.encoder.parameters()), torch.arange(16.0)
    sums = plain.mul(weights).sum(), model.encode(picture)[0].mul(weights).sum()
    torch.testing.assert_close(*(torch.autograd.grad(each, parameters) for each in sums))
    deviation = model.encode(picture, noise=True)[0] - plain
    assert 2.3 < deviation.abs().max() <= 2.5


def test_stage_2_does_not_fuse() -> None:
    model = Autoencoder(GRAIN_RECIPES["smoke-stage2"])
    model.parts()["fusion"].register_forward_hook(lambda *arguments: pytest.fail("the fusion ran"))
    restored = model(torch.zeros(2, 3, 64, 64))
    assert restored.picture.shape == (2, 3, 64, 64)
    assert restored.codes.requires_grad


@pytest.mark.parametrize("domain", ["cats", "churches"])
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3", "final"])
def test_another_domain_differs_from_faces_by_identity_alone(stage: str, domain: str) -> None:
    """[GRAIN] supplementary 1: the identity loss has the weight 0 off faces."""
    faces, recipe = GRAIN_RECIPES[f"{stage}-faces-256-lr16"], GRAIN_RECIPES[f"{stage}-{domain}-256-lr16"]
    assert (faces.domain, recipe.domain) == ("faces", domain)
    assert faces.loss.identity > 0 == recipe.loss.identity
    assert replace(recipe, domain="faces", loss=faces.loss) == faces


@pytest.mark.parametrize("domain", ["cats", "churches"])
def test_another_domain_continues_the_default_bundle(domain: str, default_bundle: Path) -> None:
    recipe = GRAIN_RECIPES[f"stage1-{domain}-256-lr16-fine"]
    assert (recipe.loss.identity, recipe.loss.regions, recipe.loss.region_gain) == (0, 0, 0)
    run = start_run(recipe, default_bundle)
    assert run.recipe == recipe  # it adopts no other shape
    assert run.history and run.model.rate is not None


PSNR = {"smoke-stage1": 17.0, "smoke-stage2": 10.0, "smoke-stage3": 14.0, "smoke-final": 17.0}
CODES = 1.17  # in units of the variance of W


@pytest.mark.parametrize("name", PSNR)
def test_the_recipe_learns(name: str, tmp_path: Path) -> None:
    recipe = GRAIN_RECIPES[name]
    untrained = train(recipe, tmp_path / "untrained", pictures=0)
    trained = train(recipe, tmp_path / "trained", pictures=80 if name == "smoke-final" else None)
    assert untrained["psnr"] < PSNR[name] < trained["psnr"]
    if name == "smoke-stage2":
        assert trained["codes"] < CODES < untrained["codes"]
    if name == "smoke-final":
        terms = rows(tmp_path / "trained", "loss")[-1]
        assert {"adversarial", "discriminator", "lr"} <= set(terms)


ENCODER = RRDBEncoderConfig(64, 16, width=8, growth=4, rrdb=1)
SCALES = (Scale(16, 8, rrdb=1, growth=4), Scale(32, 8, rrdb=1, growth=4), Scale(64, 8, dense=1, growth=4))
DECODER = DecoderConfig(SCALES, head=(8,))


def shrunk(stage: str) -> GrainRecipe:
    """A stage of the paper for 64 x 64 from 16 x 16, without the metric networks."""
    recipe, smoke = GRAIN_RECIPES[f"{stage}-1024-lr16-paper"], GRAIN_RECIPES["smoke-stage2"]
    decoder = DECODER if stage == "stage1" else replace(smoke.decoder, decoder=DECODER)
    loss = replace(recipe.loss, lpips=0.0, identity=0.0)
    adversarial = replace(recipe.adversarial, discriminator=DiscriminatorConfig(64, 8, 16), every=1)
    recipe = replace(recipe, encoder=ENCODER, decoder=decoder, loss=loss, adversarial=adversarial)
    return replace(recipe, batch=2, learning_rate=1e-3, ema=0.5, random_pictures=8)


def test_all_stages_train_one_after_the_other(tmp_path: Path) -> None:
    start = None
    for stage in ("stage1", "stage2", "stage3", "final"):
        figures = train(shrunk(stage), tmp_path / stage, RunOptions(init_from=start), pictures=4)
        assert figures["pictures"] == 4 and figures["skipped"] == 0 and np.isfinite(figures["psnr"])
        start = tmp_path / stage
    assert isinstance(load_run(tmp_path / "stage1").model.encoder, TrainedRRDBEncoder)


def test_the_encoder_learns_through_the_quantization() -> None:
    run = start_run(replace(shrunk("stage1"), adversarial=None), None)
    picture = torch.from_numpy(random_pictures(2, 64, 0)).permute(0, 3, 1, 2).float()
    restored = run.model(picture)
    levels = (restored.lr + 1) * 127.5
    assert restored.lr.shape == (2, 3, 16, 16) and torch.equal(levels.round(), levels.clamp(0, 255).round())
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    restored.picture.square().mean().backward()
    gradients = [parameter.grad for parameter in run.model.encoder.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    noisy = (run.model(picture, noise=True).lr.detach() + 1) * 127.5
    assert 0.1 < float((noisy - levels.detach()).abs().mean()) < 0.6
    means = torch.floor(torch.nn.functional.avg_pool2d(picture, 4) + 0.5)
    torch.testing.assert_close(run.model.encoder(picture)[1], means)


def test_a_run_becomes_a_bundle_that_can_be_trained_on(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "fit_tables", lambda *_, **__: CoderTables.default())
    monkeypatch.setattr(publish.writer, "write_bundle", functools.partial(write_bundle, formats=("onnx",)))
    train(replace(shrunk("stage1"), adversarial=None), tmp_path / "run", pictures=4)
    run, folder, reports = tmp_path / "run", tmp_path / "paper-64", []
    options = {"bundle_id": "paper-64", "version": "1.0.0", "coder_pictures": 4}
    publish_run(run, faces, folder, **options, report=lambda part, line: reports.append((part, line)))
    assert reports[-2:] == [(1.0, "encoding 4 pictures"), (1.0, "exporting encoder and decoder")]
    manifest = load_manifest(folder)
    assert manifest.encoder["exact"] is False and RRDB_ENCODER_WEIGHTS in manifest.files
    assert "exact encoder" not in manifest.open_file("README.md").decode()
    model = load_run(run).average
    picture = random_pictures(1, 64, 5)[0]
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float())[0]
    lr = sdk.Codec(folder, threads=1).compress(picture, align=False).lr.astype(int)
    assert np.abs(lr - expected[0].permute(1, 2, 0).numpy()).max() <= 1
    wider = replace(shrunk("stage1"), encoder=replace(ENCODER, width=16), adversarial=None)
    again = start_run(wider, folder)
    assert again.recipe.encoder == ENCODER  # shapes are those of the start
    for name, tensor in model.encoder.state_dict().items():
        torch.testing.assert_close(again.model.encoder.state_dict()[name], tensor)
    with pytest.raises(BundleError, match="no integers"):
        store_trained(run, tmp_path / "zoo")
