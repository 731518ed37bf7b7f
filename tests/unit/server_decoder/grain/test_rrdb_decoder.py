"""GRAIN's invertible decoder: the paper's configuration, the bundle's, and their features."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from server_decoder.grain import rrdb_decoder as presets
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale, Upsample


def test_the_paper_configuration_gives_64_channels_from_16_to_1024() -> None:
    with torch.device("meta"):
        decoder = RRDBDecoder(presets.PAPER_1024_LR16)
        picture, features = decoder.forward_features(torch.empty(1, 3, 16, 16))
    assert picture.shape == (1, 3, 1024, 1024)
    assert [tuple(f.shape[1:]) for f in features] == [(64, 16 * 2**i, 16 * 2**i) for i in range(7)]


@torch.no_grad()
def test_the_bundle_configuration_gives_features_at_every_scale() -> None:
    decoder = RRDBDecoder(presets.FACES_256_LR16)
    picture, features = decoder.forward_features(torch.rand(1, 3, 16, 16) * 2 - 1)
    assert picture.shape == (1, 3, 256, 256)
    assert [f.shape[-1] for f in features] == [16, 32, 64, 128, 256]
    assert sum(tensor.numel() for tensor in decoder.parameters()) * 2 < 11e6  # bytes as float16
    # Neither vanishing nor exploding through five scales: what lets a new decoder learn from the first step.
    assert all(0.3 < float(f.std()) < 3 for f in features)


@torch.no_grad()
def test_coarser_steps_than_its_own_have_a_branch() -> None:
    plain, told = (RRDBDecoder(replace(DecoderConfig((Scale(4, 8), Scale(8, 8))), step=step)) for step in (0, 2))
    told.load_state_dict(plain.state_dict(), strict=False)
    for branch in told.step_branches:
        branch.conv.weight.normal_(std=0.1)
    lrs = torch.rand(3, 3, 4, 4) * 2 - 1
    torch.testing.assert_close(told(lrs), plain(lrs))
    steps = torch.tensor([2.0, 4.0, 32.0])
    pictures, alone = told(lrs, steps), torch.cat(list(map(told, lrs.split(1), steps.split(1))))
    torch.testing.assert_close(alone, pictures, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(told.octaves(lrs, steps).flatten(), torch.tensor([0, 0.25, 1]))
    assert all((pictures - plain(lrs)).abs().amax((1, 2, 3))[1:] > 1e-3)


def test_the_fine_configuration_stays_within_its_budget() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        RRDBDecoder(presets.FACES_256_LR16_FINE)(torch.empty(1, 3, 16, 16))
    assert 13e9 < counter.get_total_flops() / 2 < 14e9  # multiply-adds; the whole of GRAIN in bundle 0.5.0 has 14e9


def test_bilinear_upsampling_keeps_a_constant_constant() -> None:
    """No position of the finer grid differs from another; sub-pixel convolutions have four different positions."""
    spread = {}
    for kind in ("bilinear", "subpixel"):
        fine = Upsample(6, 4, kind)(torch.ones(1, 6, 5, 5))
        assert fine.shape == (1, 4, 10, 10)
        spread[kind] = float(fine[..., 1:-1, 1:-1].std((2, 3)).max())  # inside the convolution's zero padding
    assert spread["bilinear"] < 1e-5 < 0.1 < spread["subpixel"]


@pytest.mark.parametrize(
    ("scales", "options", "message"),
    [
        ((Scale(16, 8), Scale(64, 8)), {}, "double"),
        ((Scale(16, 8), Scale(32, 4)), {}, "width"),
        ((Scale(16, 8), Scale(32, 8)), {"upsampling": "bicubic"}, "bicubic"),
    ],
)
def test_impossible_configurations_are_refused(scales: tuple[Scale, ...], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(scales, **options)
