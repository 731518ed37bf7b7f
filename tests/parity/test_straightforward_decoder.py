"""The transformed generator and fusion compared with the modules as the papers write them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed.straightforward import (
    straightforward_decoder,
    straightforward_prior,
)
from export.decoder.half_generators import half_prior
from export.decoder.served import served_decoder
from export.decoder.sources import random_decoder
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig

RELATIVE = 1e-4
"""Tolerance of float32; differences of summation order stay a hundred times below."""


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape and expected.abs().max() > 0
    assert (found - expected).abs().max() <= RELATIVE * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["grain-smoke", "grain-smoke-mobile"])
def test_whole_decoders(name: str) -> None:
    decoder = random_decoder(name).decoder
    lr = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = straightforward_decoder(decoder).forward_all(lr)
    for form in (decoder, served_decoder(decoder)):
        found = form.forward_all(lr)
        assert_equal(found.final, expected.final)
        assert_equal(found.style, expected.style)
        assert list(found.f_gen) == list(expected.f_gen)
        for side, feature in expected.f_gen.items():
            assert_equal(found.f_gen[side], feature)
    half = straightforward_decoder(decoder).half()(lr.half())  # what benchmarks compare float16 with
    assert half.dtype == torch.float16 and (half - expected.final).abs().max() < 0.02


@torch.no_grad()
def test_a_wavelet_head() -> None:
    torch.manual_seed(6)
    prior = MobileStyleGAN(MobileStyleGANConfig(32, "wavelet", 512, 32, code_width=32, mapping_layers=2)).eval()
    for parameter in prior.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    codes = torch.randn(2, prior.code_count, prior.code_width)
    expected = straightforward_prior(prior)(codes).picture
    assert_equal(prior(codes).picture, expected)
    half = half_prior(prior)(codes).picture
    assert half.dtype == torch.float32 and (half - expected).abs().max() < 0.01 * expected.abs().max()
