"""Whole decoders with a generator, as small as all parts allow: an export takes time by the node."""

from dataclasses import replace

from benchmarks.speed.random_decoder import random_grain
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import Grain, GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from server_decoder.mobile_stylegan import MobileStyleGANConfig
from server_decoder.stylegan2.networks import StyleGAN2Config

TINY = GrainConfig(
    DecoderConfig((Scale(8, 16, residual=1), Scale(16, 8)), "subpixel", ()),
    PriorConfig("stylegan2", StyleGAN2Config(16, channel_base=256, channel_max=32, code_width=32, mapping_layers=2)),
    CodesConfig(widths=(12, 8), branch=(16, 24, 32), branch_per="resolution"),
    FusionConfig(sizes=(8, 16), widths=(8, 8), head=(8,)),
)
INVERTIBLE = GrainConfig(TINY.decoder)
TINY_MOBILE = GrainConfig(
    TINY.decoder,
    PriorConfig("mobile-stylegan", MobileStyleGANConfig(16, "rgb", 256, 32, code_width=32, mapping_layers=2)),
    replace(TINY.codes, offsets=(8,)),
    replace(TINY.fusion, project=(8, 8)),
)


def tiny_grain(config: GrainConfig = TINY) -> Grain:
    """A decoder from 8x8 to 16x16 pixels with random weights, none of them zero."""
    return random_grain(config)
