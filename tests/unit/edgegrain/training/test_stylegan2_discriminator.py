"""StyleGAN2's discriminator: size, scores, groups, gradients of gradients."""

from __future__ import annotations

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.training.adversarial import Discriminator, DiscriminatorBlock, minibatch_stddev
from server_decoder.stylegan2.networks import CONFIG_F_1024, StyleGAN2Config


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(StyleGAN2Config(32, channel_base=128, channel_max=12))


def test_configuration_f_at_1024_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        discriminator = Discriminator(CONFIG_F_1024)
        assert discriminator(torch.empty(4, 3, 1024, 1024)).shape == (4,)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 29_012_513


@torch.no_grad()
def test_blocks_keep_the_variance() -> None:
    # Smooth input, as features are: the low-pass filter takes most of white noise away.
    x = torch.nn.functional.interpolate(torch.randn(4, 32, 8, 8), scale_factor=4, mode="bicubic")
    y = DiscriminatorBlock(32, 48)(x)
    assert y.shape == (4, 48, 16, 16)
    assert 0.5 < float(y.square().mean() / x.square().mean()) < 1.5


@torch.no_grad()
def test_scores_know_the_group_but_not_the_order(discriminator: Discriminator) -> None:
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
def test_r1_reaches_every_weight(discriminator: Discriminator, batch: int) -> None:
    pictures = torch.randn(batch, 3, 32, 32, requires_grad=True)
    gradient, = torch.autograd.grad(discriminator(pictures).sum(), pictures, create_graph=True)
    gradient.square().sum((1, 2, 3)).mean().backward()
    for name, parameter in discriminator.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_pictures_of_another_size_are_refused(discriminator: Discriminator) -> None:
    with pytest.raises(ModelError, match=r"\[batch, 3, 32, 32\], got \[2, 3, 64, 64\]"):
        discriminator(torch.zeros(2, 3, 64, 64))


def test_minibatch_deviation_by_hand() -> None:
    x = torch.randn(8, 3, 2, 2)
    got = minibatch_stddev(x)
    assert torch.equal(got[:, :3], x)
    for index in range(8):
        group = x[[index % 2, index % 2 + 2, index % 2 + 4, index % 2 + 6]].numpy()
        torch.testing.assert_close(got[index, 3], torch.full((2, 2), float(group.std(0).mean())))
    assert minibatch_stddev(x[:5])[:, 3].max() < 2e-4  # five is prime: every picture for itself
    torch.testing.assert_close(minibatch_stddev(x[:3])[0, 3, 0, 0], torch.tensor(x[:3].numpy().std(0).mean()))
