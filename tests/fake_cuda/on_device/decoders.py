"""Small decoders as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from codec_contract.bundle.find import DEFAULT_BUNDLE
from export.decoder import DecoderOptions, Ops, Pixels, Precision
from export.decoder.export import export_decoder
from tests.fake_cuda.environment import REPOSITORY
from tests.tiny_grain import TINY, tiny_grain

SHIPPED = REPOSITORY / "bundles" / DEFAULT_BUNDLE / "decoder.onnx"


class Form(NamedTuple):
    """A decoder with random weights in one of the forms that are served."""

    ops: Ops
    precision: str
    generator: bool = True

    def __str__(self) -> str:
        return f"{self.ops}.{self.precision}{'' if self.generator else '.no-generator'}"


FUSED_HALF = Form(Ops.fused, "float16")
RRDB = Form(Ops.fused, "float32", generator=False)
RRDB_HALF = Form(Ops.fused, "float16", generator=False)


class Decoders:
    """Files of decoders that take and give uint8, each exported once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, form: Form) -> Path:
        path = self._folder / f"{form}.onnx"
        if not path.is_file():
            decoder = tiny_grain() if form.generator else tiny_grain().decoder
            options = DecoderOptions(precision=Precision(form.precision), ops=form.ops, pixels=Pixels.uint8)
            path.write_bytes(export_decoder(decoder, TINY.decoder.lr, options))
        return path
