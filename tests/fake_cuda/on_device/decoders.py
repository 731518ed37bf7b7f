"""Small decoders as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from export.decoder.command import export_decoder
from export.decoder.decoder_options import Ops, Pixels, Weights
from export.decoder.sources import random_decoder
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.prior_config import PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.inference import served_decoder
from server_decoder.stylegan2.synthesis import StyleGAN2Config
from tests.fake_cuda.environment import REPOSITORY

SHIPPED = REPOSITORY / "bundles" / DEFAULT_BUNDLE / "decoder.onnx"

# As small as all parts allow: an export takes time by the node.
TINY = GrainConfig(
    DecoderConfig((Scale(8, 16, residual=1), Scale(16, 8)), "subpixel", ()),
    PriorConfig("stylegan2", StyleGAN2Config(16, channel_base=256, channel_max=32, code_width=32, mapping_layers=2)),
    CodesConfig(widths=(12, 8), branch=(16, 24, 32), branch_per="resolution"),
    FusionConfig(sizes=(8, 16), widths=(8, 8), head=(8,)))


class Form(NamedTuple):
    """A decoder with random weights in one of the forms that are served."""

    ops: Ops
    precision: str
    generator: bool = True

    def __str__(self) -> str:
        return f"{self.ops}.{self.precision}{'' if self.generator else '.no-generator'}"


PLAIN_HALF = Form(Ops.plain, "float16")
FUSED_HALF = Form(Ops.fused, "float16")
RRDB = Form(Ops.fused, "float32", generator=False)
RRDB_HALF = Form(Ops.fused, "float16", generator=False)
FORMS = (PLAIN_HALF, FUSED_HALF)


class Decoders:
    """Files of decoders that take and give uint8, each exported once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, form: Form) -> Path:
        path = self._folder / f"{form}.onnx"
        if not path.is_file():
            decoder = Grain(TINY).eval() if form.generator else invertible_decoder()
            fused = form.ops is Ops.fused and form.generator
            served = served_decoder(decoder, getattr(torch, form.precision), fused=fused)
            lr = (decoder.config.decoder if isinstance(decoder, Grain) else decoder.config).lr
            path.write_bytes(export_decoder(served, lr, Weights(form.precision), ops=form.ops, pixels=Pixels.uint8))
        return path


def invertible_decoder() -> RRDBDecoder:
    """Random weights, none of them zero."""
    whole = random_decoder("grain-smoke").decoder
    return whole.decoder if isinstance(whole, Grain) else whole
