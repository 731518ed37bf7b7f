"""R1 and path lengths against their values on linear networks; lazy regularization's optimizer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgegrain.papers.stylegan.augment import augment
from edgegrain.papers.stylegan.training import PATH_RATE, PathLength, lazy_adam, path_lengths
from edgegrain.training.adversarial import r1_penalty
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config

TINY = StyleGAN2Config(16, channel_base=128, channel_max=8, code_width=8, mapping_layers=2)


class LinearDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).sum((1, 2, 3))


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights() -> None:
    """On augmented pictures too, and under autocast; and it can be differentiated again."""
    discriminator = LinearDiscriminator()
    torch.manual_seed(0)
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
    lengths = path_lengths(picture, codes, torch.from_numpy(noise))
    expected = np.linalg.norm(noise.reshape(2, -1) @ matrix, axis=1) / math.sqrt(4 * 4 * 5)
    np.testing.assert_allclose(lengths.detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_the_papers_weight_of_path_lengths_is_two(size: int) -> None:
    paper = math.log(2) / (size**2 * (math.log(size) - math.log(2)))
    assert 2 / (size**2 * len(StyleGAN2Config(size).code_resolutions)) == pytest.approx(paper)


def test_the_penalty_on_path_lengths_reaches_the_generators_weights() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(TINY)
    codes = generator.broadcast(generator.map(torch.randn(3, 8)))
    PathLength().penalty(path_lengths(generator(codes).picture, codes)).backward()
    gradients = [layer.conv.weight.grad for layer in generator.layers]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert generator.mapping.layers[0].weight.grad.abs().max() > 0


def test_the_penalty_is_the_deviation_from_the_running_mean() -> None:
    path = PathLength(mean=2.0)
    penalty = path.penalty(torch.tensor([1.0, 4.0]))
    mean = 2.0 + PATH_RATE * 0.5
    assert float(path.mean) == pytest.approx(mean)
    assert float(penalty) == pytest.approx(((1 - mean) ** 2 + (4 - mean) ** 2) / 2)


def test_lazy_regularization_takes_the_optimizers_rates_to_a_power() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    (group,) = lazy_adam([parameter], 0.002, 16).param_groups
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    (group,) = lazy_adam([parameter], 0.002, 0).param_groups
    assert (group["lr"], group["betas"]) == (0.002, (0.0, 0.99))
