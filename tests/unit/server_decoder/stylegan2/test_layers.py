"""StyleGAN2's layers against independent formulations: modulated weights, zero insertion, bilinear interpolation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from server_decoder.stylegan2.layers import (
    EqualizedConv,
    EqualizedLinear,
    ModulatedConv,
    StyledLayer,
    ToRGB,
    activate,
    demodulation,
    minibatch_stddev,
    normalize,
)

WIDTH = 12


def modulated_weights(x: Tensor, style: Tensor, weight: Tensor, demodulate: bool, up: bool) -> Tensor:
    """[StyleGAN2] Eq. 1 and 3 to the letter: new weights for every picture, then an ordinary convolution.

    Upsampling in three plain steps: zeros between the pixels, a convolution (kernel mirrored: conv2d correlates), and
    the filter [1, 3, 3, 1] as sums of shifted copies.
    """
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
        dense = F.conv2d(sparse[None], kernel.flip(2, 3), padding=1)[0]
        for dimension in (1, 2):
            dense = (dense + 3 * dense.roll(-1, dimension) + 3 * dense.roll(-2, dimension)
                     + dense.roll(-3, dimension)) / 4
        pictures.append(dense[:, :2 * height, :2 * width])
    return torch.stack(pictures)


def heavy_tailed(*shape: int, generator: torch.Generator) -> Tensor:
    """Cauchy's distribution: no mean, now and then a number a thousand times the others."""
    return torch.empty(shape).cauchy_(generator=generator)


@pytest.mark.parametrize("tails", ["normal", "heavy"])
@pytest.mark.parametrize(("kernel", "demodulate", "up"), [(3, True, False), (3, True, True), (1, False, False)])
def test_modulated_activations_equal_modulated_weights(tails: str, kernel: int, demodulate: bool, up: bool) -> None:
    generator = torch.Generator().manual_seed(kernel + up)
    conv = ModulatedConv(64, 48, kernel, WIDTH, demodulate=demodulate, up=up)
    draw = heavy_tailed if tails == "heavy" else torch.randn
    with torch.no_grad():
        conv.weight.copy_(draw(*conv.weight.shape, generator=generator))
        conv.modulation.weight.copy_(draw(*conv.modulation.weight.shape, generator=generator))
        x, code = torch.randn(3, 64, 9, 9, generator=generator), draw(3, WIDTH, generator=generator)
        style = conv.modulation(code)
        got = conv(x, code)
        wanted = modulated_weights(x, style, conv.weight / math.sqrt(64 * kernel**2), demodulate, up)
    if tails == "heavy":
        assert style.abs().max() > 30 * style.abs().median()
        assert conv.weight.abs().max() > 300 * conv.weight.abs().median()
    assert got.shape == wanted.shape == ((3, 48, 18, 18) if up else (3, 48, 9, 9))
    size = wanted.square().mean().sqrt()
    assert size > 0.5
    assert (got - wanted).abs().max() <= 1e-4 * max(1, float(size))


def test_gradients_of_modulated_activations_equal_those_of_modulated_weights() -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(6, 5, 3, WIDTH, up=True).double()
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    code = torch.randn(2, WIDTH, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    style = conv.modulation(code)
    wanted = modulated_weights(x, style, conv.weight / math.sqrt(54), True, True)
    variables = (x, code, conv.weight, conv.modulation.weight)
    for a, b in zip(torch.autograd.grad((conv(x, code) * target).sum(), variables),
                    torch.autograd.grad((wanted * target).sum(), variables), strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_layer_can_be_differentiated_twice(up: bool) -> None:
    torch.manual_seed(0)
    layer = StyledLayer(2, 3, 6 if up else 3, 2, up=up).double()
    torch.nn.init.constant_(layer.noise_strength, 0.3)
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    code = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, code: layer(x, code).square().sum(), (x, code))


def test_demodulation_is_computed_in_float32() -> None:
    style, weight = torch.full((1, 512), 300.0).half(), torch.ones(4, 512, 3, 3).half()
    factors = demodulation(style, weight)  # 300^2 * 4608 is beyond float16
    assert factors.dtype == torch.float32
    torch.testing.assert_close(factors, torch.full((1, 4), 1 / (300 * math.sqrt(4608))))


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_downsampling_convolution_filters_and_keeps_every_second_pixel(kernel: int) -> None:
    conv = EqualizedConv(1, 1, kernel, down=True, bias=False)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        conv.weight.zero_()[0, 0, kernel // 2, kernel // 2] = kernel  # the equalized scale is 1 / kernel here
        got = conv(x)[0, 0]
    padded = F.pad(x[0, 0], (1, 1, 1, 1))
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    wanted = torch.stack([torch.stack([taps @ padded[2 * i:2 * i + 4, 2 * j:2 * j + 4] @ taps for j in range(4)])
                          for i in range(4)])
    torch.testing.assert_close(got, wanted)


def test_equalized_layers_start_with_unit_weights_and_scale_them_when_used() -> None:
    torch.manual_seed(0)
    linear = EqualizedLinear(256, 512, bias=1.0, rate=0.01)
    assert abs(float(linear.weight.detach().std()) * 0.01 - 1) < 0.02
    with torch.no_grad():
        y = linear(torch.randn(64, 256))
        assert abs(float((y - 1).std()) - 1) < 0.05
        torch.testing.assert_close(linear(torch.zeros(1, 256)), torch.ones(1, 512))
    conv = EqualizedConv(64, 8, 3)
    with torch.no_grad():
        assert abs(float(conv(torch.randn(4, 64, 16, 16))[..., 1:-1, 1:-1].std()) - 1) < 0.1


def test_normalization_and_activation() -> None:
    torch.testing.assert_close(normalize(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5))
    x = torch.tensor([[[[1.0, -1.0]], [[1.0, -1.0]]]])
    got = activate(x, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(got, math.sqrt(2) * torch.tensor([[[[1.0, -0.2]], [[2.0, 0.0]]]]))


def test_minibatch_deviation_by_hand() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 2)
    got = minibatch_stddev(x, 4)
    assert torch.equal(got[:, :3], x)
    for index in range(8):
        group = x[[index % 2, index % 2 + 2, index % 2 + 4, index % 2 + 6]].numpy()
        torch.testing.assert_close(got[index, 3], torch.full((2, 2), float(group.std(0).mean())))
    assert minibatch_stddev(x[:5], 4)[:, 3].max() < 2e-4  # five is prime: every picture for itself
    torch.testing.assert_close(minibatch_stddev(x[:3], 4)[0, 3, 0, 0], torch.tensor(x[:3].numpy().std(0).mean()))


def test_noise_is_one_map_for_all_channels_times_a_strength() -> None:
    layer = StyledLayer(4, 5, 6, WIDTH)
    x, code, noise = torch.randn(2, 4, 6, 6), torch.randn(2, WIDTH), torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, code), layer(x, code, noise))  # strength zero at first
        layer.noise_strength.fill_(0.5)
        torch.testing.assert_close(layer(x, code, noise), activate(layer.conv(x, code) + 0.5 * noise))
        torch.testing.assert_close(layer(x, code), activate(layer.conv(x, code) + 0.5 * layer.noise))


def test_autocast_keeps_styles_in_float32_and_pictures_close() -> None:
    torch.manual_seed(0)
    layer, to_rgb = StyledLayer(32, 32, 16, WIDTH, up=True), ToRGB(32, WIDTH)
    x, code = torch.randn(2, 32, 8, 8), torch.randn(2, WIDTH)
    with torch.no_grad():
        exact = to_rgb(layer(x, code), code)
        with torch.autocast("cpu", torch.bfloat16):
            features = layer(x, code)
            picture = to_rgb(features, code)
    assert features.dtype == torch.bfloat16
    assert picture.dtype == torch.float32
    assert (picture - exact).abs().max() < 0.05 * exact.abs().max()
