"""Small decoders as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from export.decoder.command import export_decoder
from export.decoder.decoder_options import Ops, Pixels, Weights
from export.decoder.sources import random_decoder
from server_decoder.grain.grain import Grain
from server_decoder.inference import served_decoder
from tests.fake_cuda.environment import REPOSITORY

SHIPPED = REPOSITORY / "bundles" / DEFAULT_BUNDLE / "decoder.onnx"


class Form(NamedTuple):
    """A decoder with random weights in one of the forms that are served."""

    ops: Ops
    precision: str
    pixels: Pixels
    configuration: str = "grain-smoke"
    generator: bool = True

    def __str__(self) -> str:
        return f"{self.ops}.{self.precision}.{self.pixels}{'' if self.generator else '.no-generator'}"


PLAIN_HALF = Form(Ops.plain, "float16", Pixels.uint8)
FUSED_HALF = Form(Ops.fused, "float16", Pixels.uint8)
RRDB = Form(Ops.fused, "float32", Pixels.uint8, generator=False)
RRDB_HALF = Form(Ops.fused, "float16", Pixels.uint8, generator=False)
FORMS = (PLAIN_HALF, FUSED_HALF)


class Decoders:
    """Files of decoders, each exported once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, form: Form) -> Path:
        path = self._folder / f"{form}.onnx"
        if not path.is_file():
            source = random_decoder(form.configuration)
            decoder = source.decoder
            if not form.generator and isinstance(decoder, Grain):
                decoder = decoder.decoder
            fused = form.ops is Ops.fused and form.generator
            served = served_decoder(decoder, getattr(torch, form.precision), fused=fused)
            path.write_bytes(export_decoder(served, source.network.lr, Weights(form.precision), ops=form.ops,
                                            pixels=form.pixels))
        return path
