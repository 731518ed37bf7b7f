"""Growing a decoder: the larger one begins with the picture of the smaller."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codec_contract.errors import BundleError
from edgegrain.training.grain.grow import grow
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale

SMALL = DecoderConfig((Scale(8, 12, rrdb=1, growth=4), Scale(16, 8, residual=1), Scale(32, 4)), "subpixel", ())
LARGE = DecoderConfig(
    (Scale(8, 12, rrdb=3, growth=4), Scale(16, 10, residual=2), Scale(32, 6, residual=1)), "subpixel", ())


def trained(config: DecoderConfig) -> RRDBDecoder:
    torch.manual_seed(0)
    decoder = RRDBDecoder(config)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return decoder


@torch.no_grad()
def test_the_picture_stays_and_everything_new_can_learn() -> None:
    small, large = trained(SMALL), RRDBDecoder(LARGE)
    grow(large, small)
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(large(lr), small(lr), atol=1e-4, rtol=1e-4)
    with torch.enable_grad():
        (large(lr) - torch.rand(2, 3, 32, 32)).pow(2).mean().backward()
    for name in ("scales.0.blocks.2.RDB3.conv5.weight", "scales.1.blocks.1.conv2.weight", "scales.2.conv.weight",
                 "head.0.weight"):
        gradient = large.get_parameter(name).grad
        assert gradient is not None and gradient.abs().sum() > 0, name


def test_a_subpixel_convolution_becomes_the_centre_of_a_convolution() -> None:
    small, large = trained(SMALL), RRDBDecoder(replace(LARGE, upsampling="bilinear"))
    grow(large, small)
    old, new = small.get_parameter("upsamples.0.conv.weight"), large.get_parameter("upsamples.0.conv.weight")
    assert (old.shape, new.shape) == ((12, 8, 2, 2), (10, 12, 3, 3))
    expected = torch.zeros(8, 12, 3, 3)
    expected[:, :, 1, 1] = old.detach().sum((2, 3)).T / 4
    torch.testing.assert_close(new.detach()[:8], expected)


@pytest.mark.parametrize("config, message", [
    (replace(LARGE, scales=LARGE.scales[:2]), r"the scales \[8, 16\]"),
    (replace(LARGE, scales=(Scale(8, 12, rrdb=1, growth=4), Scale(16, 6), Scale(32, 4))), "wider at 16x16"),
    (replace(LARGE, scales=(Scale(8, 16, rrdb=1, growth=4), *LARGE.scales[1:])), "only their number may grow"),
])
def test_what_cannot_grow_is_refused(config: DecoderConfig, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        grow(RRDBDecoder(config), trained(SMALL))


@torch.no_grad()
def test_the_last_blocks_can_be_left_out() -> None:
    """Those of a decoder that has grown and was not trained since; an untrained RRDB multiplies by 1.2."""
    small, large, again = trained(SMALL), RRDBDecoder(LARGE), RRDBDecoder(
        replace(LARGE, scales=(Scale(8, 12, rrdb=1, growth=4), Scale(16, 10, residual=1), LARGE.scales[2])))
    grow(large, small)
    grow(again, large)
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(again(lr), small(lr), atol=1e-4, rtol=1e-4)


def test_a_decoder_of_larger_lrs_takes_over_the_finer_scales() -> None:
    small = trained(SMALL)
    larger = DecoderConfig((Scale(16, 10, residual=2), Scale(32, 6, residual=1)), "subpixel", ())
    large = RRDBDecoder(larger)
    first = large.conv_first.weight.clone()
    grow(large, small)
    given, taken = small.state_dict(), large.state_dict()
    assert torch.equal(taken["scales.0.blocks.0.conv1.weight"][:8, :8], given["scales.1.blocks.0.conv1.weight"])
    assert torch.equal(taken["upsamples.0.conv.weight"][:8, :4], given["upsamples.1.conv.weight"])
    assert torch.equal(taken["head.0.weight"][:, :4], given["head.0.weight"])
    assert torch.equal(large.conv_first.weight, first)
    assert not taken["scales.0.blocks.1.conv2.weight"].any()
    with pytest.raises(BundleError, match=r"the scales \[8, 16, 32\]"):
        grow(RRDBDecoder(SMALL), large)
