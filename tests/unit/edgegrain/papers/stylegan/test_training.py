"""Training of a StyleGAN2: both networks learn, p adapts, the average moves; resuming, fine-tuning, augmentation."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.papers.stylegan import training as prior_run
from edgegrain.papers.stylegan.training import NETWORKS, STYLEGAN2_RECIPES, augment, colours, geometry, start_run, warp
from edgegrain.pictures.packed import random_pictures
from edgegrain.training.adversarial import load_discriminator, r1_penalty
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import describe
from edgegrain.training.run import train
from server_decoder.prior_store import load_prior
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config, load_stylegan2, save_stylegan2
from tests.unit.edgegrain.conftest import same

TINY = StyleGAN2Config(16, channel_base=256, channel_max=16, code_width=16, mapping_layers=2)
SMOKE = replace(STYLEGAN2_RECIPES["smoke-prior"], network=TINY, r1=prior_run.r1_weight(16, 8), random_pictures=16)
KNOWS_NOTHING = 2 * math.log(2)  # loss of a discriminator that gives every picture the same score 0


def new_trainer(**changes: object) -> prior_run.PriorTrainer:
    run = start_run(replace(SMOKE, **changes))  # type: ignore[arg-type]
    return prior_run.PriorTrainer(run, Distributed(torch.device("cpu")), random_pictures(16, 16, 0))


def test_both_networks_learn_from_random_pictures() -> None:
    """The bound is one that networks which do not move miss."""
    losses = {}
    for rate, steps in ((2e-3, 40), (1e-9, 12)):
        trainer = new_trainer(learning_rate=rate)
        run = trainer.run
        first = {name: tensor.clone() for name, tensor in run.average.state_dict().items()}
        trace = [float(trainer.step()["discriminator"]) for _ in range(steps)]
        losses[rate] = sum(trace[-12:]) / 12
        moved = max(float((tensor - first[name]).abs().max()) for name, tensor in run.average.state_dict().items())
        assert trainer.skipped == 0
        assert (moved > 0.02) == (rate == 2e-3)
        if rate == 2e-3:
            pairs = zip(run.average.parameters(), run.model.parameters(), strict=True)
            assert max(float((a - b).detach().abs().max()) for a, b in pairs) > 1e-3  # the average lags behind
            assert run.p > 0  # 16 pictures: the discriminator soon knows them by heart
            assert run.path_length > 0
    assert losses[2e-3] < 0.8 * KNOWS_NOTHING < losses[1e-9]


def test_the_average_has_its_half_life() -> None:
    trainer = new_trainer(ema=16, ema_ramp=0.0)  # two steps of eight pictures
    weight, average = trainer.run.model.constant, trainer.run.average.constant
    with torch.no_grad():
        average.fill_(0)
        weight.fill_(1)
        trainer.update_averages()
        trainer.update_averages()
    torch.testing.assert_close(average, torch.full_like(average, 0.5))


def test_without_the_controller_nothing_is_augmented() -> None:
    trainer = new_trainer(adaptation_pictures=0)
    terms = [set(trainer.step()) for _ in range(2)]
    assert trainer.run.p == 0 and terms[1] == {"discriminator", "generator", "sign", "r1", "path_length"}


def test_a_run_resumes_exactly_where_it_stood(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(SMOKE, one, pictures=40)
    shutil.copytree(one, two)
    stored = prior_run.load_run(one)
    assert (stored.pictures, stored.steps, stored.recipe) == (40, 5, SMOKE)
    assert stored.path_length > 0

    train(SMOKE, one, pictures=40, resume=True)  # no step: nothing changes
    again = prior_run.load_run(one)
    for name in ("model", "average", "discriminator"):
        assert same(getattr(stored, name), getattr(again, name))

    for folder in (one, two):  # and from the same weights it goes the same way
        train(SMOKE, folder, pictures=64, resume=True)
    first, second = prior_run.load_run(one), prior_run.load_run(two)
    assert (first.pictures, first.steps) == (64, 8)
    # Float kernels may round differently from run to run: little, compared with what three steps change.
    moved = (first.model.constant - stored.model.constant).abs().mean()
    assert moved > 0
    assert (first.model.constant - second.model.constant).abs().mean() < 0.01 * moved


def test_augmentation_can_end_with_a_new_session(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, pictures=8)
    run = prior_run.load_run(tmp_path)
    run.p = 0.3
    save_checkpoint(tmp_path, run)
    assert train(SMOKE, tmp_path, pictures=8, resume=True)["p"] == 0.3
    assert train(replace(SMOKE, adaptation_pictures=0), tmp_path, pictures=16, resume=True)["p"] == 0


def test_what_it_leaves_is_a_prior(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, pictures=16)
    loaded = load_prior(tmp_path / NETWORKS, TINY)
    average = prior_run.load_run(tmp_path).average
    codes = loaded.broadcast(loaded.map(torch.randn(2, 16)))
    torch.testing.assert_close(loaded(codes).picture, average(codes).picture)
    assert loaded.mean_code.abs().max() > 0  # measured, for truncation
    assert load_discriminator(tmp_path / NETWORKS).config == TINY
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (2 * 16 + 4 * 24 - 8,) * 2  # four by four


def test_it_begins_with_another_domains_networks(tmp_path: Path) -> None:
    first = start_run(replace(SMOKE, seed=7))
    path = tmp_path / "start.safetensors"
    save_stylegan2(path, first.average, first.discriminator)
    run = start_run(SMOKE, path)
    assert torch.equal(run.model.constant, first.average.constant)
    assert torch.equal(run.average.constant, first.average.constant)
    assert torch.equal(run.discriminator.score.weight, first.discriminator.score.weight)

    larger = replace(TINY, size=32)  # cut; its discriminator looks at larger pictures, so that one begins anew
    save_stylegan2(path, StyleGAN2(larger), start_run(replace(SMOKE, network=larger)).discriminator, force=True)
    run = start_run(replace(SMOKE, network=replace(TINY, channel_base=512)), path)
    assert run.recipe.network == TINY
    assert torch.equal(run.model.constant, load_stylegan2(path).constant)
    assert run.discriminator.config == TINY
    with pytest.raises(ModelError, match="cannot cut"):
        start_run(replace(SMOKE, network=replace(TINY, size=64)), path)


def test_the_papers_recipe() -> None:
    recipe = STYLEGAN2_RECIPES["stylegan2-1024-paper"]
    assert (recipe.batch, recipe.learning_rate, recipe.r1) == (32, 2e-3, 10)
    assert (prior_run.R1_EVERY, prior_run.PATH_EVERY, prior_run.PATH, prior_run.MIXING) == (16, 8, 2, 0.9)
    assert (recipe.ema, recipe.adaptation_pictures) == (10_000, 0)
    assert recipe.network == StyleGAN2Config(1024, 32768, 512, 512, 8)
    assert describe(recipe)["pictures"] == describe(STYLEGAN2_RECIPES["ada-256-paper"])["pictures"] == 25_000_000


class LinearDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).sum((1, 2, 3))


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights() -> None:
    """On augmented pictures too, and under autocast; and it can be differentiated again."""
    discriminator = LinearDiscriminator()
    with torch.autocast("cpu", torch.bfloat16):
        penalty = r1_penalty(discriminator, augment(torch.randn(5, 3, 8, 8), 0.8))
    expected = discriminator.weight.detach().square().sum()
    torch.testing.assert_close(penalty.detach(), expected)
    (gradient,) = torch.autograd.grad(penalty, discriminator.weight)
    torch.testing.assert_close(gradient, 2 * discriminator.weight.detach())


def test_path_lengths_of_a_linear_generator() -> None:
    """picture = A codes, so J is A whatever the codes, and |J^T y| can be computed without derivatives."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3 * 4 * 4, 5 * 6))
    codes = torch.from_numpy(rng.standard_normal((2, 5, 6))).requires_grad_(True)
    noise = rng.standard_normal((2, 3, 4, 4))
    picture = (codes.flatten(1) @ torch.from_numpy(matrix).T).view(2, 3, 4, 4)
    lengths = prior_run.path_lengths(picture, codes, torch.from_numpy(noise))
    expected = np.linalg.norm(noise.reshape(2, -1) @ matrix, axis=1) / math.sqrt(4 * 4 * 5)
    np.testing.assert_allclose(lengths.detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_the_papers_weight_of_path_lengths_is_two(size: int) -> None:
    paper = math.log(2) / (size**2 * (math.log(size) - math.log(2)))
    assert 2 / (size**2 * len(StyleGAN2Config(size).code_resolutions)) == pytest.approx(paper)


def test_the_penalty_is_the_deviation_from_the_running_mean() -> None:
    penalty, found = prior_run.path_penalty(torch.tensor([1.0, 4.0]), torch.tensor(2.0))
    mean = 2.0 + prior_run.PATH_RATE * 0.5
    assert float(found) == pytest.approx(mean)
    assert float(penalty) == pytest.approx(((1 - mean) ** 2 + (4 - mean) ** 2) / 2)


def test_lazy_regularization_takes_the_optimizers_rates_to_a_power() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    (group,) = prior_run.lazy_adam([parameter], 0.002, 16).param_groups
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _map(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float32).expand(4, 2, 3)


def test_without_probability_nothing_happens(pictures: torch.Tensor) -> None:
    assert augment(pictures, 0.0) is pictures
    torch.testing.assert_close(augment(pictures, 1e-9), pictures, atol=2e-5, rtol=0)


def test_flips_turns_and_whole_pixel_shifts_move_pixels_exactly(pictures: torch.Tensor) -> None:
    close = {"atol": 2e-5, "rtol": 0}
    torch.testing.assert_close(warp(pictures, _map([[-1, 0, 0], [0, 1, 0]])), pictures.flip(3), **close)
    torch.testing.assert_close(warp(pictures, _map([[0, -1, 0], [1, 0, 0]])), pictures.rot90(1, (2, 3)), **close)
    shifted = warp(pictures, _map([[1, 0, 2 * 3 / 16], [0, 1, 0]]))  # three pixels of sixteen, to the left
    torch.testing.assert_close(shifted[..., :13], pictures[..., 3:], **close)
    torch.testing.assert_close(shifted[..., 13:], pictures[..., 13:].flip(3), **close)  # mirrored at the border


def test_transformations_happen_as_often_as_p_says(pictures: torch.Tensor) -> None:
    many = pictures.new_empty(4000, 3, 16, 16)
    p = 0.3
    same = (colours(many, p) - torch.eye(4)[:3]).abs().amax((1, 2)) < 1e-6
    # Four transformations and one that, when it happens, does nothing half of the time.
    assert float(same.float().mean()) == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.025)
    same = (geometry(many, p) - torch.eye(3)[:2]).abs().amax((1, 2)) < 1e-6
    # Flip (half), turn (three quarters), shift, scale, two rotations that together have p, stretch, shift; a shift by
    # whole pixels of 16 is none in one of eight or so.
    shift = 1 - p * (1 - 1 / 16)
    assert float(same.float().mean()) == pytest.approx((1 - p / 2) * (1 - 0.75 * p) * shift * (1 - p) ** 4, abs=0.025)


def test_colour_keeps_what_it_should(pictures: torch.Tensor) -> None:
    """Every colour map takes greys to greys: hue and saturation turn around them."""
    matrix = colours(pictures, 1.0)
    grey = prior_run.recolour(pictures.mean(1, keepdim=True).expand_as(pictures), matrix)
    torch.testing.assert_close(grey, grey.mean(1, keepdim=True).expand_as(grey), atol=1e-5, rtol=0)
    assert not torch.allclose(prior_run.recolour(pictures, matrix), pictures, atol=0.05)


def test_gradients_pass_to_the_pictures(pictures: torch.Tensor) -> None:
    pictures.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        result = augment(pictures, 0.8)
    assert result.dtype == torch.float32
    (gradient,) = torch.autograd.grad(result.square().sum(), pictures)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum((1, 2, 3)) > 1).all()


def test_p_rises_while_the_discriminator_overfits_and_falls_when_it_does_not() -> None:
    controller = prior_run.AdaptiveProbability(1000)
    for steps, sign, p in ((3, 0.7, 0), (1, 0.7, 4 * 10 / 1000), (400, 1.0, 0.8), (4, 0.5, 0.8 - 0.04), (400, 0.0, 0)):
        for _ in range(steps):
            controller.observe(torch.tensor(sign), 10)
        assert controller.p == pytest.approx(p)
        assert controller.overfitting == pytest.approx(0 if steps == 3 else sign)
