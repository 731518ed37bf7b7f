"""Adversarial losses and their discriminators."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.training import adversarial as module
from edgegrain.training.adversarial import (
    LOSSES,
    AdversarialConfig,
    AdversarialLoss,
    DiscriminatorConfig,
    ProjectedConfig,
)
from edgegrain.training.checkpoint import Run
from edgegrain.training.distributed import Distributed
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from server_decoder.stylegan2.networks import CONFIG_F_1024, TINY_64, StyleGAN2Config
from tests.unit.edgegrain.conftest import alexnet_stand_in, same

HERE = Distributed(torch.device("cpu"))


def soft(*numbers: float) -> float:
    """The mean softplus."""
    return sum(math.log1p(math.exp(number)) for number in numbers) / len(numbers)


@pytest.mark.parametrize(
    ("loss", "discriminator", "maker"),
    [
        ("non-saturating", soft(-1, -3) + soft(0, -1), soft(0, 1)),
        ("relativistic", soft(-1.5, -3.5, -2, -3), soft(1.5, 3.5, 2, 3)),  # means: 2 and -1/2
        ("wgan", -0.5 - 2 + 1e-3 * 5, 0.5),
        ("hinge", (0 + 0) / 2 + (1 + 0) / 2, 0.5),
    ],
)
def test_the_losses_are_their_formulas(loss: str, discriminator: float, maker: float) -> None:
    found = LOSSES[loss](torch.tensor([1.0, 3.0]), torch.tensor([0.0, -1.0]))
    assert [float(value) for value in found] == pytest.approx([discriminator, maker])


@pytest.mark.parametrize(("ratio", "gradient"), [(0.0, -0.5 * 3), (0.5, -0.5)])  # the other gradient has the norm 1
def test_the_joint_loss_adds_the_adversarial_one_of_the_judged_pictures(ratio: float, gradient: float) -> None:
    config = AdversarialConfig("hinge", ratio=ratio, weight=0.5, r1=0.0, discriminator=DiscriminatorConfig(16))
    adversarial = AdversarialLoss(config, Linear())
    picture, originals = torch.ones(2, 1, 1, 1, requires_grad=True), torch.zeros(1, 1, 1, 1)
    found = {"l1": torch.tensor(7.0)}
    loss, terms = module.joint_loss(picture, lambda seen: (seen[1].sum(), found), adversarial, 0.0, originals, slice(1))
    assert terms == {"l1": 7.0, "adversarial": -3.0}
    assert float(loss.detach()) == (1.0 if ratio else 1.0 - 0.5 * 3)
    loss.backward()
    assert picture.grad.flatten().tolist() == pytest.approx([gradient, 1.0])
    later = AdversarialLoss(replace(config, begins=0.5), Linear())
    for absent, progress in ((None, 1.0), (later, 0.4)):
        plain, terms = module.joint_loss(picture, lambda seen: (seen.sum(), {}), absent, progress, originals)
        assert float(plain.detach()) == 2.0 and not terms
    if ratio:
        with pytest.raises(EdgegrainError, match=r"none of them is active .* set adversarial\.ratio=0"):
            module.joint_loss(picture, lambda seen: (torch.zeros(()), {}), adversarial, 1.0, picture)


class Linear(nn.Module):
    """Logit = the sum of all pixels times three."""

    def forward(self, picture: Tensor) -> Tensor:
        return 3 * picture.sum((1, 2, 3))


@pytest.mark.parametrize(("loss", "projected"), [*((loss, False) for loss in LOSSES), ("hinge", True)])
def test_a_discriminator_learns_to_tell_pictures_apart_and_gives_them_a_gradient(loss: str, projected: bool) -> None:
    discriminator = ProjectedConfig(8) if projected else DiscriminatorConfig(16, 8, 16)
    r1, side, steps = (0.0, 40, 30) if projected else (0.1, 16, 16)
    adversarial = AdversarialLoss(AdversarialConfig(loss, discriminator=discriminator, learning_rate=2e-3, r1=r1))
    if projected:
        adversarial.discriminator.features = alexnet_stand_in
    real, fake = torch.rand(8, 3, side, side) * 0.5 + 0.5, -torch.rand(8, 3, side, side)
    first, *_, last = [adversarial.update_discriminator(fake, real, HERE) for _ in range(steps)]
    assert ("r1" in first) == (not projected)
    assert "r1" not in last
    assert float(last["logit_gap"]) > float(first["logit_gap"]) + 0.3
    before = {name: tensor.clone() for name, tensor in adversarial.discriminator.state_dict().items()}
    for parameter in adversarial.discriminator.parameters():
        parameter.grad = None
    picture = fake.requires_grad_(True)
    adversarial.generator_loss(picture, real).backward()
    assert picture.grad is not None and picture.grad.mean() < 0  # brighter looks more like an original
    assert all(parameter.grad is None for parameter in adversarial.discriminator.parameters())
    assert same(adversarial.discriminator, before)


def test_the_small_discriminator_is_small_and_discriminators_larger_pictures_at_its_size() -> None:
    assert (
        sum(parameter.numel() for parameter in module.SmallDiscriminator(DiscriminatorConfig()).parameters())
        <= 4_000_000
    )
    discriminator = module.SmallDiscriminator(DiscriminatorConfig(16, 8, 16))
    picture = torch.randn(4, 3, 16, 16)
    doubled = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(discriminator(doubled), discriminator(picture))


def test_stylegan2s_discriminator_can_take_its_place() -> None:
    adversarial = AdversarialLoss(AdversarialConfig("wgan", discriminator=TINY_64))
    assert adversarial.generator_loss(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)).shape == ()


def test_a_picture_that_is_not_finite_leaves_the_discriminator_as_it_was() -> None:
    adversarial = AdversarialLoss(AdversarialConfig(r1=0.0, discriminator=DiscriminatorConfig(32, 8, 16)))
    before = {name: tensor.clone() for name, tensor in adversarial.discriminator.state_dict().items()}
    picture, broken = torch.rand(2, 3, 32, 32), torch.full((2, 3, 32, 32), math.nan)
    adversarial.update_discriminator(broken, picture, HERE)
    assert same(adversarial.discriminator, before)
    adversarial.update_discriminator(-picture, picture, HERE)
    assert adversarial.updates == 1 and not same(adversarial.discriminator, before)


def test_a_resumed_run_keeps_its_discriminator_and_takes_the_recipes_settings() -> None:
    def resumed(stored: AdversarialLoss | None, wanted: AdversarialConfig | None) -> AdversarialLoss | None:
        run = Run(None, None, None, stored)
        run.resume(replace(GRAIN_RECIPES["smoke-stage1"], adversarial=wanted))
        assert run.recipe.adversarial == (run.adversarial and run.adversarial.config)
        return run.adversarial

    small = DiscriminatorConfig(32, 8, 16)
    stored = AdversarialLoss(AdversarialConfig(discriminator=small, weight=0.01))
    discriminator = stored.discriminator
    again = resumed(stored, AdversarialConfig(discriminator=TINY_64, weight=0.5))
    assert again is not None and again.discriminator is discriminator
    assert (again.config.weight, again.config.discriminator) == (0.5, small)
    assert resumed(stored, None) is None
    begun = resumed(None, AdversarialConfig(discriminator=small))
    assert begun is not None and begun.config.discriminator == small
    projected = AdversarialLoss(AdversarialConfig("hinge", discriminator=ProjectedConfig(), r1=0.0))
    with pytest.raises(EdgegrainError, match="does not fit the run.*no R1 penalty"):
        resumed(projected, AdversarialConfig(discriminator=small, r1=10.0))


def test_only_the_relativistic_loss_of_the_networks_looks_at_originals() -> None:
    picture, target = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    for loss in LOSSES:
        adversarial = AdversarialLoss(AdversarialConfig(loss, discriminator=DiscriminatorConfig(32, 8, 16)))
        seen: list[Tensor] = []
        adversarial.discriminator.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        value = adversarial.generator_loss(picture, target)
        real, fake = adversarial.discriminator(target), adversarial.discriminator(picture)
        torch.testing.assert_close(value, LOSSES[loss](real, fake)[1])
        assert len(seen) == 2 + 1 + (loss == "relativistic")


def test_logits_are_per_patch_and_only_the_heads_are_stored() -> None:
    discriminator = module.ProjectedDiscriminator(ProjectedConfig(8))
    with pytest.raises(ModelError, match="--weights"):
        discriminator(torch.zeros(1, 3, 40, 40))
    before = set(discriminator.state_dict())
    discriminator.features = alexnet_stand_in
    assert [tuple(logits.shape) for logits in discriminator(torch.zeros(2, 3, 40, 40))] == [(2, 1, 4, 4)] * 4
    assert set(discriminator.state_dict()) == before and all(name.startswith("heads.") for name in before)


@pytest.fixture
def discriminator() -> module.Discriminator:
    torch.manual_seed(0)
    return module.Discriminator(StyleGAN2Config(32, channel_base=128, channel_max=12))


def test_configuration_f_at_1024_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        discriminator = module.Discriminator(CONFIG_F_1024)
        assert discriminator(torch.empty(4, 3, 1024, 1024)).shape == (4,)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 29_012_513


@torch.no_grad()
def test_blocks_keep_the_variance() -> None:
    # Smooth input, as features are: the low-pass filter takes most of white noise away.
    x = torch.nn.functional.interpolate(torch.randn(4, 32, 8, 8), scale_factor=4, mode="bicubic")
    y = module.DiscriminatorBlock(32, 48)(x)
    assert y.shape == (4, 48, 16, 16)
    assert 0.5 < float(y.square().mean() / x.square().mean()) < 1.5


@torch.no_grad()
def test_scores_know_the_group_but_not_the_order(discriminator: module.Discriminator) -> None:
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    scores = discriminator(pictures)
    assert scores.std() > 1e-3
    torch.testing.assert_close(discriminator(pictures[[2, 0, 3, 1]]), scores[[2, 0, 3, 1]], rtol=1e-4, atol=1e-5)
    alike = discriminator(pictures[:1].expand(4, -1, -1, -1))
    assert abs(float(alike[0] - scores[0])) > 1e-5  # no deviation in a batch of equal pictures, and it notices
    with torch.autocast("cpu", torch.bfloat16):
        near = discriminator(pictures)
    assert (near.float() - scores).abs().max() < 0.1 * max(1, float(scores.abs().max()))


@pytest.mark.parametrize("batch", [1, 5])
def test_r1_reaches_every_weight(discriminator: module.Discriminator, batch: int) -> None:
    pictures = torch.randn(batch, 3, 32, 32)
    module.r1_penalty(discriminator, pictures).backward()
    for name, parameter in discriminator.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_minibatch_deviation_by_hand() -> None:
    x = torch.randn(8, 3, 2, 2)
    got = module.minibatch_stddev(x)
    assert torch.equal(got[:, :3], x)
    for index in range(8):
        group = x[[index % 2, index % 2 + 2, index % 2 + 4, index % 2 + 6]].numpy()
        torch.testing.assert_close(got[index, 3], torch.full((2, 2), float(group.std(0).mean())))
    assert module.minibatch_stddev(x[:5])[:, 3].max() < 2e-4  # five is prime: every picture for itself
    torch.testing.assert_close(module.minibatch_stddev(x[:3])[0, 3, 0, 0], torch.tensor(x[:3].numpy().std(0).mean()))
