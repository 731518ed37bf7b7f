"""Small decoders with fused operators as ONNX files."""

from pathlib import Path

from codec_contract.bundle.find import DEFAULT_BUNDLE
from export.decoder import DecoderOptions, Ops, Precision
from export.decoder.export import export_decoder
from tests.fake_cuda.environment import REPOSITORY
from tests.tiny_grain import TINY, tiny_grain

SHIPPED = REPOSITORY / "bundles" / DEFAULT_BUNDLE / "decoder.onnx"


FUSED_HALF, RRDB, RRDB_HALF = "whole.float16", "invertible.float32", "invertible.float16"


class Decoders:
    """Files of decoders with random weights, each exported once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        path, (part, precision) = self._folder / f"{name}.onnx", name.split(".")
        if not path.is_file():
            decoder = tiny_grain() if part == "whole" else tiny_grain().decoder
            options = DecoderOptions(precision=Precision(precision), ops=Ops.fused)
            path.write_bytes(export_decoder(decoder, TINY.decoder.lr, options))
        return path
