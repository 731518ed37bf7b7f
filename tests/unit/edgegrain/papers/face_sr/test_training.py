"""Training of GLEAN and GCFSR: runs that learn and frozen ones that do not, their starts, inputs, resuming, recipes."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.errors import BundleError, EdgegrainError, ModelError
from codec_contract.pixels import dequantize
from edge_encoder.integer_network import run_reference
from edge_encoder.twin import box_network
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.face_sr import training as face_sr_run
from edgegrain.papers.face_sr.bundle import load_face_sr, read_config, read_training
from edgegrain.papers.face_sr.training import FACE_SR_RECIPES, BlindDegradation, FaceSRTrainer, Factors, start_run
from edgegrain.papers.gcfsr.network import GCFSRUpscaler
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.pictures.packed import random_pictures
from edgegrain.training.adversarial import AdversarialConfig, DiscriminatorConfig, ProjectedConfig
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import RunOptions
from edgegrain.training.grain import start
from edgegrain.training.grain.model import load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import random_prior
from edgegrain.training.losses import LossWeights, MetricNetworks, feature_loss
from edgegrain.training.run import train
from server_decoder.generative_prior import prior_digest
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.stylegan2.networks import CONFIG_F_1024, StyleGAN2Config, save_stylegan2
from server_decoder.weight_file import read_header
from tests.unit.edgegrain.conftest import rows, same, shaken

GLEAN_SMOKE, GCFSR_SMOKE = FACE_SR_RECIPES["smoke-glean"], FACE_SR_RECIPES["smoke-gcfsr"]
# dB. Half-way between what untrained and trained networks reached when this was written.
BOUNDS = {"smoke-glean": 12.5, "smoke-gcfsr": 14.5, "smoke-gcfsr-blind": 14.5}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_trained_network_restores_better_than_a_frozen_one(name: str, tmp_path: Path) -> None:
    recipe = FACE_SR_RECIPES[name]
    frozen = train(replace(recipe, learning_rate=0.0), tmp_path / "frozen", pictures=8)
    trained = train(recipe, tmp_path / "trained", pictures=80)
    assert frozen["psnr"] < BOUNDS[name] < trained["psnr"]
    assert trained["pictures"] == 80 and trained["skipped"] == 0
    assert trained["psnr_bicubic"] == pytest.approx(frozen["psnr_bicubic"], abs=1e-3)  # measured twice
    if name == "smoke-gcfsr":
        assert {"psnr_x8", "psnr_bicubic_x8", "psnr_strength_8"} <= trained.keys()
        assert trained["psnr_strength_8"] != trained["psnr"]  # the strength reaches the picture
        assert Image.open(tmp_path / "trained" / "samples.png").size == (2 * 16 + 8 * 72 - 8, 2 * 16 + 6 * 72 - 8)
    if name == "smoke-gcfsr-blind":
        assert {"adversarial", "discriminator"} <= rows(tmp_path / "trained", "loss")[-1].keys()


def test_glean_is_kept_without_its_bank_which_does_not_change(tmp_path: Path) -> None:
    bank = random_prior(GLEAN_SMOKE.network.prior, seed=7)
    save_stylegan2(tmp_path / "bank.safetensors", bank)
    before = prior_digest(bank)
    train(GLEAN_SMOKE, tmp_path / "run", RunOptions(prior=tmp_path / "bank.safetensors"), pictures=24)
    path = tmp_path / "run" / "glean.safetensors"
    assert read_header(path)["bank_sha256"] == before and read_config(path) == GLEAN_SMOKE.network
    assert read_training(path)["pictures_seen"] == 24
    run = face_sr_run.load_run(tmp_path / "run", bank)
    assert isinstance(run.model, GLEAN) and isinstance(run.average, GLEAN) and run.model.prior is run.average.prior
    lr = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert (load_face_sr(path, bank)(lr) - run.average(lr)).abs().max() < 0.02  # float16
    with pytest.raises(ModelError, match="another bank"):
        face_sr_run.load_run(tmp_path / "run")


@pytest.mark.usefixtures("unevaluated")
def test_a_resumed_run_takes_the_recipes_adversarial_loss(tmp_path: Path) -> None:
    gan = AdversarialConfig(weight=0.01, discriminator=DiscriminatorConfig(64, 8, 16))
    for adversarial in (None, gan, replace(gan, weight=0.5), None):
        train(replace(GCFSR_SMOKE, adversarial=adversarial), tmp_path, pictures=0, resume=True)
        assert face_sr_run.load_run(tmp_path).recipe.adversarial == adversarial


def test_losses_get_their_networks_and_the_blind_form_its_degradation() -> None:
    with pytest.raises(ValueError, match="blind form"):
        replace(GCFSR_SMOKE, degradation=BlindDegradation())
    only = replace(GCFSR_SMOKE, loss=LossWeights(lpips=0.0, identity=0.0, lr=0.0))
    assert not only.needs_metrics and replace(only, loss=replace(only.loss, regions=0.3)).needs_metrics


@pytest.mark.usefixtures("unevaluated")
def test_a_run_can_begin_with_trained_weights(tmp_path: Path) -> None:
    train(GCFSR_SMOKE, tmp_path / "one", pictures=16)
    trained = load_face_sr(tmp_path / "one" / "gcfsr.safetensors")
    run = start_run(GCFSR_SMOKE, start=tmp_path / "one")
    assert same(run.model, trained) and same(run.average, trained)
    other = replace(GCFSR_SMOKE, network=replace(GCFSR_SMOKE.network, code_width=8))
    for recipe in other, GLEAN_SMOKE:
        with pytest.raises(ModelError, match="the recipe has"):
            start_run(recipe, start=tmp_path / "one" / "gcfsr.safetensors")


def test_factors_are_drawn_per_picture_uniformly_over_octaves() -> None:
    rng = np.random.default_rng(0)
    sides = face_sr_run.draw_sides(Factors(continuous=True), 256, 4000, rng)
    assert min(sides) == 4 and max(sides) == 64 and len(set(sides)) == 61
    octaves = Counter(int(math.log2(256 / side) + 1e-9) for side in sides if side not in (4, 64))
    assert all(0.2 < octaves[octave] / len(sides) < 0.3 for octave in (2, 3, 4, 5))
    assert set(face_sr_run.draw_sides(Factors(), 256, 500, rng)) == {64, 32, 16, 8, 4}
    one, again = (face_sr_run.draw_sides(Factors(), 256, 50, np.random.default_rng(3)) for _ in range(2))
    assert one == again


def test_gcfsr_has_the_inputs_of_the_server() -> None:
    """The same picture and strength as `GCFSRUpscaler` makes of the LR, each picture with a factor of its own."""
    pictures = torch.from_numpy(random_pictures(6, 64, seed=0)).permute(0, 3, 1, 2).float()
    drawn = face_sr_run.draw_inputs(GCFSR_SMOKE, pictures, np.random.default_rng(0))
    assert drawn.picture.shape == (6, 3, 64, 64) and len(set(drawn.factors.tolist())) > 3
    assert drawn.factors.min() >= 4 and drawn.factors.max() <= 16
    network, close = start_run(GCFSR_SMOKE).model, {"atol": 1e-5, "rtol": 1e-4}  # resampled in floats, run twice
    for picture, factor, enlarged in zip(pictures, drawn.factors, drawn.picture, strict=True):
        alone = face_sr_run.inputs_at(GCFSR_SMOKE, picture[None], float(factor)).picture[0]
        torch.testing.assert_close(alone, enlarged, **close)
    at_8 = face_sr_run.inputs_at(GCFSR_SMOKE, pictures, 8.0)
    lr = torch.nn.functional.avg_pool2d(pictures, 8).add(0.5).floor()
    with torch.no_grad():
        upscaled = GCFSRUpscaler(network, 8)(dequantize(lr))  # type: ignore[arg-type]
        torch.testing.assert_close(upscaled, network(at_8.picture, at_8.factors / 64), **close)


def test_a_validation_measures_lpips_off_its_grid(shared_weights: Path) -> None:
    networks, cpu = MetricNetworks(LPIPS(shared_weights)), Distributed(torch.device("cpu"))
    found = FaceSRTrainer(start_run(GCFSR_SMOKE), cpu, random_pictures(2, 64, seed=0), networks).evaluate()
    assert 0 < found["lpips_alex_off_grid"] != found["lpips_alex"]
    assert [name for name in found if "off_grid" in name] == ["lpips_alex_off_grid"]


def test_the_perceptual_loss_is_of_conv4_3() -> None:
    class Features(LPIPS):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def activations(self, picture: torch.Tensor) -> list[torch.Tensor]:
            return [picture * 9, picture * 8, picture * 7, picture * 2, picture * 5]

    picture, target, layer = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 4, 4), face_sr_run.VGG_LAYER
    assert feature_loss(Features(), layer, picture, target, squared=True).item() == pytest.approx(1.0)
    assert feature_loss(Features(), layer, picture, target - 0.5).item() == pytest.approx(2.0)


def test_published_constants() -> None:
    for factor, lr in ((8, 128), (16, 64), (32, 32), (64, 16)):  # [GLEAN] supplementary 1
        glean = FACE_SR_RECIPES[f"glean-1024-x{factor}"]
        assert isinstance(glean.network, GLEANConfig) and glean.network.lr == lr and glean.size == 1024
        assert (glean.loss.l1, glean.loss.l2, glean.loss.lpips) == (0, 1, 0)
        assert glean.perceptual == 0.01 and glean.squared
        assert glean.adversarial is not None and glean.adversarial.weight == 0.01
        assert glean.adversarial.discriminator == CONFIG_F_1024
        assert (glean.batch, glean.iterations, glean.learning_rate, glean.muon, glean.hold) == (8, 300_000, 1e-4, 0, 0)
    gcfsr = FACE_SR_RECIPES["gcfsr-1024"]  # [GCFSR] 3.5, 4
    assert (gcfsr.loss.l1, gcfsr.loss.l2, gcfsr.perceptual, gcfsr.squared) == (1, 0, 0.01, False)
    assert gcfsr.adversarial is not None and gcfsr.adversarial.loss == "non-saturating"
    assert gcfsr.adversarial.weight == 0.01 and gcfsr.adversarial.learning_rate == gcfsr.learning_rate == 2e-3
    assert (gcfsr.batch, gcfsr.iterations, gcfsr.reduction) == (24, 300_000, "bicubic")
    assert gcfsr.factors == Factors((4, 8, 16, 32, 64))
    blind = FACE_SR_RECIPES["gcfsr-512-blind"]
    assert blind.degradation == BlindDegradation(41, (0.1, 10), (0.8, 8), (0, 20), (60, 100))


@pytest.mark.usefixtures("unevaluated")
def test_a_projected_discriminator_trains_with_it_and_is_resumed(shared_weights: Path, tmp_path: Path) -> None:
    adversarial = AdversarialConfig("hinge", ratio=0.25, discriminator=ProjectedConfig(4), r1=0.0)
    recipe = replace(GLEAN_SMOKE, adversarial=adversarial, loss=LossWeights(l1=1.0, lpips=0.0, identity=0.0, lr=0.0))
    with pytest.raises(EdgegrainError, match="--weights"):
        train(recipe, tmp_path / "run")
    options = RunOptions(weights=shared_weights)
    train(recipe, tmp_path / "run", options, pictures=4)
    first = face_sr_run.load_run(tmp_path / "run").adversarial.discriminator
    train(recipe, tmp_path / "run", options, pictures=8, resume=True)
    assert not same(face_sr_run.load_run(tmp_path / "run").adversarial.discriminator, first)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    data = tmp_path / "faces"
    data.mkdir()
    for name, options, message in (
        ("gcfsr-1024", RunOptions(data=data, prior="x"), "no use for --prior"),
        ("glean-1024-x64", RunOptions(data=data), "needs a StyleGAN2"),
        ("smoke-glean", RunOptions(discriminator=tmp_path), "no use for --discriminator"),
        ("gcfsr-faces-256", RunOptions(weights=tmp_path), "--data"),
    ):
        with pytest.raises(EdgegrainError, match=message):
            train(FACE_SR_RECIPES[name], tmp_path / "run", options)


PRIOR = PriorConfig("stylegan2", StyleGAN2Config(32, 256, 16, 12, 2))
SCALES = (Scale(16, 10, residual=1), Scale(32, 6))
NETWORK = GLEANConfig(PRIOR, lr=8, rrdb=1, width=8, growth=4, widest=12, scales=SCALES)
DECODER = DecoderConfig((Scale(8, 8, rrdb=1, growth=4), *SCALES), upsampling="bilinear", head=())
LR = torch.rand(2, 3, 8, 8) * 2 - 1


@pytest.mark.parametrize("middle", [SCALES[0], Scale(16, 8)], ids=["the same shape", "a smaller one, which grows"])
def test_it_has_the_decoders_picture(middle: Scale) -> None:
    shape = replace(DECODER, scales=(DECODER.scales[0], middle, SCALES[1]))
    network, trained = GLEAN(NETWORK).eval(), shaken(RRDBDecoder, shape, seed=3)
    face_sr_run.begin_with_grain(network, trained)
    with torch.no_grad():
        torch.testing.assert_close(network(LR), trained(LR), atol=1e-4, rtol=1e-4)


def test_the_papers_decoder_cannot_begin_with_grains() -> None:
    with pytest.raises(BundleError, match="a decoder grows from one with the same head"):
        face_sr_run.begin_with_grain(GLEAN(replace(NETWORK, scales=())), RRDBDecoder(DECODER))


def test_a_bundle_of_the_hub_is_looked_up_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start, "find_bundle", find_bundle := Mock(side_effect=BundleError))
    with pytest.raises(BundleError):
        train(GLEAN_SMOKE, tmp_path / "run", RunOptions(init_from="hf://anna/tiny"))
    find_bundle.assert_called_once_with("hf://anna/tiny")


@pytest.mark.usefixtures("unevaluated")
def test_a_run_begins_with_another_familys_run(tmp_path: Path) -> None:
    scales = (Scale(32, 8), Scale(64, 6))
    shape = DecoderConfig((Scale(16, 8, rrdb=1, growth=4), *scales), upsampling="bilinear", head=())
    train(replace(GRAIN_RECIPES["smoke-stage1"], decoder=shape), tmp_path / "grain", pictures=8)
    recipe = replace(GLEAN_SMOKE, network=replace(GLEAN_SMOKE.network, width=8, growth=4, scales=scales))
    network = start_run(recipe, start=tmp_path / "grain").average
    lr = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(network(lr), load_run(tmp_path / "grain").average.decoder(lr))
    with pytest.raises(BundleError, match="is no run, and no bundle either"):
        start_run(GLEAN_SMOKE, start=tmp_path / "nothing")


NOISE = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
NOISE_LEVELS = torch.from_numpy(NOISE).permute(0, 3, 1, 2).float()


def test_area_means_are_the_exact_encoders_and_split_samples() -> None:
    expected = run_reference(box_network(64, 16), NOISE)
    assert np.array_equal(face_sr_run.reduce_levels(NOISE_LEVELS, 16, "area").permute(0, 2, 3, 1).numpy(), expected)
    assert np.allclose(face_sr_run.area_matrix(3, 2), np.array([[2, 1, 0], [0, 1, 2]]) / 3)


@pytest.mark.parametrize("side", [16, 11])
def test_bicubic_reductions_are_pillows(side: int) -> None:
    channel = Image.fromarray(NOISE[0, :, :, 0].astype(np.float32))
    expected = np.asarray(channel.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 255)
    found = face_sr_run.reduce_levels(NOISE_LEVELS[:1], side, "bicubic")[0, 0].numpy()
    assert np.abs(found - expected).max() < 0.51  # rounded


def test_a_seed_decides_how_a_picture_is_degraded() -> None:
    blind = BlindDegradation(kernel=9, sigma=(0.5, 2.0), factor=(1.0, 4.0))
    picture = torch.from_numpy(np.array(Image.fromarray(NOISE[0, :8, :8]).resize((64, 64)))).permute(2, 0, 1)
    one, same, other = (blind.degrade(picture, np.random.default_rng(seed)) for seed in (1, 1, 2))
    # A float that rounds to the next level may change a block of the JPEG file in between.
    assert (one - same).abs().mean() < 0.05 < (one - other).abs().mean()
    assert one.shape == picture.shape and torch.equal(one, one.round()) and one.min() >= 0 and one.max() <= 255
    assert 2 < (one - picture).abs().mean() < 60


def test_every_part_of_a_degradation_does_something() -> None:
    picture = torch.full((3, 32, 32), 100.0)
    picture[:, 16:] = 180.0
    keep = {"kernel": 5, "sigma": (1e-3, 1e-3), "factor": (1.0, 1.0), "noise": (0.0, 0.0), "quality": (100, 100)}
    rng = np.random.default_rng(0)

    def change(**parts: object) -> torch.Tensor:
        return (BlindDegradation(**{**keep, **parts}).degrade(picture, rng) - picture).abs()  # type: ignore[arg-type]

    assert change().max() <= 2
    assert change(sigma=(2.0, 2.0))[:, 15:17].min() > 10 and change(sigma=(2.0, 2.0))[:, :10].max() <= 2
    assert change(factor=(4.0, 4.0))[:, 15:17].min() > 10
    assert 5 < change(noise=(10.0, 10.0)).mean() < 11
