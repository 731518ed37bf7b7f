"""Small decoders of every family, and their graphs, each exported once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import onnx
import pytest
import torch
from torch import nn

from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig, GCFSRUpscaler
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.irn.network import IRN, IRNConfig, Upscaler
from export.decoder.decoder_graph import decoder_graph
from export.decoder.sources import random_decoder
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.inference import served_decoder
from server_decoder.stylegan2.synthesis import TINY_64
from tests.tiny_grain import TINY_MOBILE, tiny_grain


def _rrdb(upsampling: str) -> RRDBDecoder:
    coarse, fine = (12, 12) if upsampling == "nearest" else (12, 8)
    return RRDBDecoder(DecoderConfig(
        (Scale(8, coarse, rrdb=1, growth=4), Scale(16, fine, dense=1, growth=4), Scale(32, fine, residual=1)),
        upsampling, head=(8,)))


SEEDED, HALF = "grain-smoke", "grain-tiny-mobile"
"""The family whose graph takes noise, and the one whose graph computes in float16; both have the fused ops."""
FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "rrdb-nearest": (lambda: _rrdb("nearest"), 8),
    "rrdb-bilinear": (lambda: _rrdb("bilinear"), 8),
    "rrdb-subpixel": (lambda: _rrdb("subpixel"), 8),
    "irn": (lambda: Upscaler(IRN(IRNConfig(blocks=(1, 2), growth=8))), 8),
    "glean": (lambda: GLEAN(GLEANConfig(PriorConfig("stylegan2", replace(TINY_64, size=32)), 8, rrdb=1, width=8,
                                        growth=4, head=8, widest=8)), 8),
    "gcfsr": (lambda: GCFSRUpscaler(GCFSR(GCFSRConfig(32, 8, channel_base=128, channel_max=16, code_width=12,
                                                      code_channels=6)), 8), 8),
    SEEDED: (lambda: random_decoder(SEEDED).decoder, 16),
    HALF: (lambda: tiny_grain(TINY_MOBILE), 8),
}
"""Name -> a decoder and the side of its LRs."""


@cache
def _decoder(name: str) -> nn.Module:
    torch.manual_seed(0)
    decoder = FAMILIES[name][0]()
    with torch.no_grad():
        for parameter in decoder.parameters():  # no bias is zero, no two tensors are equal
            parameter.add_(0.01 * torch.randn_like(parameter))
    return decoder.eval()


@cache
def _graph(name: str) -> onnx.ModelProto:
    decoder, lr = _decoder(name), FAMILIES[name][1]
    if name == SEEDED:
        decoder = served_decoder(decoder, fused=True, seeded=True)
    elif name == HALF:
        decoder = served_decoder(decoder, torch.float16, fused=True)
    elif name.startswith("rrdb"):
        decoder = served_decoder(decoder)
    return decoder_graph(decoder, lr)


@pytest.fixture(scope="session")
def family() -> Callable[[str], tuple[nn.Module, int]]:
    """The decoder of a family, in float32, and the side of its LRs."""
    return lambda name: (_decoder(name), FAMILIES[name][1])


@pytest.fixture(scope="session")
def family_graph() -> Callable[[str], onnx.ModelProto]:
    """The graph of a family's decoder, in float32 unless it is `HALF`; a copy."""
    def graph(name: str) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(_graph(name))
        return copy

    return graph
