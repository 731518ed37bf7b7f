"""StyleGAN2's layers where other tests do not reach: extreme weights, float16, beginnings."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from server_decoder.stylegan2.layers import EqualizedConv, EqualizedLinear, ModulatedConv, demodulation


def modulated_weights(x: Tensor, style: Tensor, weight: Tensor, demodulate: bool, up: bool) -> Tensor:
    """[StyleGAN2] Eq. 1 and 3 to the letter: new weights for every picture, then an ordinary convolution."""
    pictures = []
    for picture, scales in zip(x, style, strict=True):
        kernel = weight * scales[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if not up:
            pictures.append(F.conv2d(picture[None], kernel, padding=kernel.shape[-1] // 2)[0])
            continue
        channels, height, width = picture.shape
        sparse = picture.new_zeros(channels, 2 * height + 4, 2 * width + 4)  # two zeros around the convolution's reach
        sparse[:, 2:-2:2, 2:-2:2] = picture
        dense = F.conv2d(sparse[None], kernel.flip(2, 3), padding=1)[0]  # mirrored: conv2d correlates
        for dimension in (1, 2):
            dense = (
                dense + 3 * dense.roll(-1, dimension) + 3 * dense.roll(-2, dimension) + dense.roll(-3, dimension)
            ) / 4
        pictures.append(dense[:, : 2 * height, : 2 * width])
    return torch.stack(pictures)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "demodulate", "up"), [(3, True, False), (3, True, True), (1, False, False)])
def test_modulated_activations_equal_modulated_weights(kernel: int, demodulate: bool, up: bool) -> None:
    """Weights and codes have heavy tails: now and then a number is a thousand times the others."""
    generator = torch.Generator().manual_seed(kernel + up)
    conv = ModulatedConv(64, 48, kernel, 12, demodulate=demodulate, up=up)
    conv.weight.cauchy_(generator=generator)
    conv.modulation.weight.cauchy_(generator=generator)
    x = torch.randn(3, 64, 9, 9, generator=generator)
    code = torch.empty(3, 12).cauchy_(generator=generator)
    style = conv.modulation(code)
    assert style.abs().max() > 30 * style.abs().median()
    got = conv(x, code)
    wanted = modulated_weights(x, style, conv.weight / math.sqrt(64 * kernel**2), demodulate, up)
    assert got.shape == wanted.shape == ((3, 48, 18, 18) if up else (3, 48, 9, 9))
    size = wanted.square().mean().sqrt()
    assert size > 0.5 and (got - wanted).abs().max() < 1e-4 * size


def test_demodulation_is_computed_in_float32() -> None:
    style, weight = torch.full((1, 512), 300.0).half(), torch.ones(4, 512, 3, 3).half()
    factors = demodulation(style, weight)  # 300^2 * 4608 is beyond float16
    assert factors.dtype == torch.float32
    torch.testing.assert_close(factors, torch.full((1, 4), 1 / (300 * math.sqrt(4608))))


@torch.no_grad()
def test_equalized_layers_start_with_unit_weights_and_scale_them_when_used() -> None:
    linear, conv = EqualizedLinear(256, 512, bias=1.0, rate=0.01), EqualizedConv(64, 8, 3)
    assert abs(float(linear.weight.std()) * 0.01 - 1) < 0.02
    assert abs(float((linear(torch.randn(64, 256)) - 1).std()) - 1) < 0.05
    torch.testing.assert_close(linear(torch.zeros(1, 256)), torch.ones(1, 512))
    assert abs(float(conv(torch.randn(4, 64, 16, 16))[..., 1:-1, 1:-1].std()) - 1) < 0.1
