"""StyleGAN2's discriminator: size, scores, groups, gradients of gradients."""

from __future__ import annotations

import pytest
import torch

from codec_contract.errors import ModelError
from server_decoder.stylegan2.networks import CONFIG_F_1024, Discriminator, DiscriminatorBlock, StyleGAN2Config

TINY = StyleGAN2Config(32, channel_base=128, channel_max=12)


def test_configuration_f_at_1024_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        discriminator = Discriminator(CONFIG_F_1024)
        assert discriminator(torch.empty(4, 3, 1024, 1024)).shape == (4,)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 29_012_513


def test_blocks_keep_the_variance() -> None:
    torch.manual_seed(0)
    block = DiscriminatorBlock(32, 48)
    # Smooth input, as features are: the low-pass filter takes most of white noise away.
    x = torch.nn.functional.interpolate(torch.randn(4, 32, 8, 8), scale_factor=4, mode="bicubic")
    with torch.no_grad():
        y = block(x)
    assert y.shape == (4, 48, 16, 16)
    assert 0.5 < float(y.square().mean() / x.square().mean()) < 1.5


def test_scores_know_the_group_but_not_the_order() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY)
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        scores = discriminator(pictures)
        shuffled = discriminator(pictures[[2, 0, 3, 1]])
        alike = discriminator(pictures[:1].expand(4, -1, -1, -1))
    assert scores.std() > 1e-3
    torch.testing.assert_close(shuffled, scores[[2, 0, 3, 1]], rtol=1e-4, atol=1e-5)
    assert abs(float(alike[0] - scores[0])) > 1e-5  # no deviation in a batch of equal pictures, and it notices


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_r1_reaches_every_weight(batch: int) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY)
    pictures = torch.randn(batch, 3, 32, 32, requires_grad=True)
    gradient, = torch.autograd.grad(discriminator(pictures).sum(), pictures, create_graph=True)
    gradient.square().sum((1, 2, 3)).mean().backward()
    for name, parameter in discriminator.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\[batch, 3, 32, 32\], got \[2, 3, 64, 64\]"):
        Discriminator(TINY)(torch.zeros(2, 3, 64, 64))


def test_autocast_scores_stay_close() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY)
    pictures = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        exact = discriminator(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            scores = discriminator(pictures)
    assert (scores.float() - exact).abs().max() < 0.1 * max(1, float(exact.abs().max()))
