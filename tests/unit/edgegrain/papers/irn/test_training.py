"""IRN's training: losses by hand, a run that learns and a frozen one that does not, IRN+, resuming."""

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.errors import EdgegrainError, ImageError, ModelError
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.irn import training as irn_run
from edgegrain.papers.irn.bundle import load_irn, read_training
from edgegrain.papers.irn.network import PRESETS
from edgegrain.papers.irn.training import IRN_RECIPES, IRNDiscriminator, IRNLosses, IRNRecipe, crops, pack_photographs
from edgegrain.training import run as training_run
from edgegrain.training.family import RunOptions
from edgegrain.training.run import train
from tests.pictures import exif
from tests.unit.edgegrain.conftest import rows, same

SMOKE = IRN_RECIPES["smoke-irn"]
BOUND = 28.0  # dB: the untrained network, a Haar transform, restores the held-out crops at about 23


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is."""
    monkeypatch.setattr(training_run, "LOG_EVERY", 1)


def test_a_trained_network_restores_better_than_a_frozen_one(tmp_path: Path) -> None:
    frozen = train(replace(SMOKE, learning_rate=0.0), tmp_path / "frozen", pictures=8)
    trained = train(SMOKE, tmp_path / "trained", evaluate_every=300)
    assert frozen["psnr"] < BOUND < trained["psnr"]
    assert trained["psnr_y"] > 35 and trained["skipped"] == 0 and trained["pictures"] == 480
    logged = rows(tmp_path / "trained", "reconstruction")
    assert logged[-1]["reconstruction"] < 0.75 * logged[0]["reconstruction"]
    assert logged[-1]["distribution"] < 0.9 * logged[0]["distribution"]
    assert len(rows(tmp_path / "trained", "validation")) == 2
    weights = tmp_path / "trained" / "irn.safetensors"
    assert load_irn(weights).config == SMOKE.network and read_training(weights)["crops_seen"] == 480
    assert Image.open(tmp_path / "trained" / "samples.png").size == (2 * 16 + 8 * 40 - 8, 2 * 16 + 3 * 40 - 8)


@pytest.mark.usefixtures("unevaluated", "logged")
def test_irn_plus_begins_with_irn_and_trains_its_discriminator_first(tmp_path: Path) -> None:
    train(SMOKE, tmp_path / "irn", pictures=4)
    before = load_irn(tmp_path / "irn" / "irn.safetensors")
    plus, begins = IRN_RECIPES["smoke-irn-plus"], RunOptions(init_from=tmp_path / "irn")
    alone = train(replace(plus, discriminator_alone=1.0), tmp_path / "alone", begins, pictures=4)
    assert alone["pictures"] == 4
    assert same(load_irn(tmp_path / "alone" / "irn.safetensors"), before)
    train(plus, tmp_path / "plus", begins, pictures=20)
    assert not same(load_irn(tmp_path / "plus" / "irn.safetensors"), before)
    logged = rows(tmp_path / "plus", "divergence")
    assert ["reconstruction" in row for row in logged] == [False, True, True, True, True]
    assert {"guide", "distribution"} <= set(logged[-1]) and 0 < logged[-1]["divergence"] < math.log(2)
    with pytest.raises(ModelError, match="the recipe has"):
        irn_run.start_run(IRNRecipe(), tmp_path / "irn")


@pytest.mark.usefixtures("logged")
def test_lpips_is_a_loss_of_irn_plus(tmp_path: Path, shared_weights: Path) -> None:
    vgg = LPIPS(shared_weights, "vgg")
    picture, other = torch.rand(2, 1, 3, 40, 40)
    assert irn_run.lpips_loss(vgg, picture, picture).item() == 0
    values = [irn_run.lpips_loss(vgg, picture, other).item() for _ in range(2)]
    assert min(values) > 0.1 and len(set(values)) > 1  # each at another offset
    train(SMOKE, tmp_path / "irn", pictures=4)
    recipe = replace(IRN_RECIPES["smoke-irn-plus"], loss=IRNLosses(lpips=1.0), discriminator_alone=0.0)
    options = RunOptions(init_from=tmp_path / "irn", weights=shared_weights)
    train(recipe, tmp_path / "plus", options, pictures=4)
    assert 0 < rows(tmp_path / "plus", "lpips")[-1]["lpips"] < 1


def test_a_run_is_resumed(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, pictures=8)
    result = train(SMOKE, tmp_path, pictures=16, resume=True)
    assert result["pictures"] == 16 and irn_run.load_run(tmp_path).pictures == 16
    assert [row["seen"] for row in rows(tmp_path, "seen")] == [0, 8]


@pytest.mark.usefixtures("unevaluated")
def test_the_crop_may_change_unless_a_discriminator_depends_on_it(tmp_path: Path) -> None:
    plus = replace(IRN_RECIPES["smoke-irn-plus"], random_pictures=2)
    for recipe, crop in ((SMOKE, 16), (plus, plus.crop)):
        folder = tmp_path / str(crop)
        train(recipe, folder, pictures=4)
        train(replace(recipe, crop=16), folder, pictures=8, resume=True)
        assert irn_run.load_run(folder).recipe.crop == crop


def test_losses_are_sums_over_a_picture() -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    assert irn_run.reconstruction_loss(x + 0.1, x).item() == pytest.approx(192 * 0.1, rel=1e-5)
    assert irn_run.guide_loss(torch.full((2, 3, 2, 2), 0.7), x).item() == pytest.approx(12 * 0.04, rel=1e-4)
    z = torch.randn(4, 45, 2, 2)
    normal = torch.distributions.Normal(0.0, 0.3)
    constant = 45 * 4 * (math.log(0.3) + 0.5 * math.log(2 * math.pi))
    expected = -normal.log_prob(z).sum((1, 2, 3)).mean() - constant
    assert irn_run.latent_loss(z, 0.3).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_divergence_is_between_0_and_log_2() -> None:
    same = torch.zeros(3)
    assert irn_run.divergence(same, same).item() == pytest.approx(0, abs=1e-6)
    assert irn_run.divergence(same + 50, same - 50).item() == pytest.approx(math.log(2), abs=1e-6)
    assert irn_run.adversarial_loss(same).item() == pytest.approx(math.log(2))


def test_the_guide_is_pillows_bicubic_reduction() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    small = irn_run.bicubic_reduction(x, 8)[0].permute(1, 2, 0).numpy()
    picture = Image.fromarray((x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    assert np.abs(small * 255 - np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC))).max() < 1


def test_published_constants() -> None:
    """[IRN] appendix 2."""
    recipe = IRN_RECIPES["irn-x4"]
    assert recipe == IRNRecipe() and recipe.network == PRESETS["irn-x4"]
    assert (recipe.batch, recipe.crop, recipe.iterations, recipe.clip_gradient) == (16, 144, 50_000, 10)
    assert (recipe.betas, recipe.weight_decay, recipe.ema, recipe.muon) == ((0.9, 0.999), 1e-5, 0, 0)
    plus = IRN_RECIPES["irn-plus-x4"]
    assert recipe.loss == IRNLosses(1, 16, 1, 0) and plus.loss == IRNLosses(0.01, 16, 1, 0.01)
    steps = [0, 9_999, 10_000, 20_000, 30_000, 40_000, 49_999]
    rates = [irn_run.learning_rate(recipe, step / 50_000, step) for step in steps]
    assert rates == [2e-4, 2e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 1.25e-5]
    steps = [5_000, 9_999, 10_000, 15_000, 24_999]
    rates = [irn_run.learning_rate(plus, step / 25_000, step) for step in steps]
    assert rates == [1e-4, 1e-4, 5e-5, 2.5e-5, 2.5e-5] and plus.discriminator_alone * plus.iterations == 5_000


def test_the_discriminator_is_srgans_with_smaller_dense_layers() -> None:
    discriminator = IRNDiscriminator(144)
    convolutions = [module for module in discriminator.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert all(conv.kernel_size == (3, 3) for conv in convolutions)
    assert discriminator.dense1.weight.shape == (100, 512 * 9 * 9) and discriminator.dense2.weight.shape == (1, 100)
    assert IRNDiscriminator(32, (4, 8))(torch.rand(2, 3, 32, 32)).shape == (2,)


def test_crops_come_from_all_pictures_and_are_flipped(tmp_path: Path) -> None:
    pictures = [np.full((20 + index, 30, 3), 40 * index, np.uint8) for index in range(5)]
    pictures[4][:, ::2] = 255 - 160
    for index, picture in enumerate([*pictures, np.zeros((8, 50, 3), np.uint8)]):  # the last one is too low
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    packed = pack_photographs(sorted(tmp_path.glob("*.png")), tmp_path / "cache")
    assert len(packed) == 6 and np.array_equal(np.load(packed[3]), pictures[3])
    written = [path.stat().st_mtime_ns for path in packed]
    assert pack_photographs(sorted(tmp_path.glob("*.png")), tmp_path / "cache") == packed
    assert [path.stat().st_mtime_ns for path in packed] == written
    batch = next(crops(packed, 5, 16, seed=1))
    assert batch.shape == (5, 3, 16, 16) and batch.dtype == torch.float32
    assert {int(255 * float(crop.min()) + 0.5) for crop in batch} == {0, 40, 80, 120, 95}
    with pytest.raises(ImageError, match="100 pixels"):
        next(crops(packed, 1, 100, seed=1))


def test_photographs_are_packed_one_at_a_time(tmp_path: Path) -> None:
    shape = (300, 400, 3)
    for index in range(12):
        Image.new("RGB", (shape[1], shape[0]), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    pack_photographs([tmp_path / "00.png"], tmp_path / "cache")  # modules that reading imports stay in memory
    tracemalloc.start()
    packed = pack_photographs(sorted(tmp_path.glob("*.png")), tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert math.prod(shape) < peak < 5 * math.prod(shape) < sum(path.stat().st_size for path in packed) / 2
    assert [int(np.load(path)[0, 0, 0]) for path in packed] == list(range(12))


def test_turned_photographs_are_packed_upright_and_damaged_ones_are_named(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (8, 20, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif(6))  # turned by 90 degrees
    packed = pack_photographs([tmp_path / "a.png"], tmp_path / "cache")
    np.testing.assert_array_equal(np.load(packed[0]), np.rot90(rgb, -1))
    for length, message in ((20, "a.png cannot be read"), (500, "a.png cannot be decoded"), (0, "a.png is empty")):
        (tmp_path / "damaged").mkdir(exist_ok=True)
        (tmp_path / "damaged" / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:length])
        with pytest.raises(ImageError, match=message):
            pack_photographs([tmp_path / "damaged" / "a.png"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_both_flips_happen() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0, 0] = 255
    source = crops([picture], 1, 4, seed=0)
    corners = {tuple(np.argwhere(next(source)[0, 0].numpy() == 1)[0].tolist()) for _ in range(40)}
    assert corners == {(0, 0), (0, 3), (3, 0), (3, 3)}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    data = tmp_path / "photographs"
    data.mkdir()
    for name, options, message in (
        ("irn-x4", RunOptions(), "pass --data"),
        ("irn-plus-x4", RunOptions(data=data), "--init-from"),
        ("irn-plus-x4", RunOptions(data=data, init_from=tmp_path), "--weights"),
        ("irn-x4", RunOptions(data=data, teacher="x"), "no use for --teacher"),
    ):
        with pytest.raises(EdgegrainError, match=message):
            train(IRN_RECIPES[name], tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unevaluated")
def test_averages_forget_random_weights_also_in_short_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decays: list[float] = []
    monkeypatch.setattr("edgegrain.training.family.update_averages", lambda one, other, decay: decays.append(decay))
    recipe = replace(SMOKE, ema=0.26)
    train(recipe, tmp_path / "run", pictures=recipe.batch)
    train(recipe, tmp_path / "run", pictures=3 * recipe.batch, resume=True)
    assert decays == [2 / 11, 3 / 12, 0.26]
