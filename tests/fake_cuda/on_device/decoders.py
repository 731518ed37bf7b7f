"""Small decoders as ONNX files."""

from __future__ import annotations

from pathlib import Path

import torch

from export.decoder.decoder_graph import decoder_graph
from export.decoder.sources import random_decoder
from server_decoder.inference import served_decoder

FORMS = ("plain.float32", "plain.float16", "fused.float16")
CONFIGURATION = "grain-smoke"


class Decoders:
    """Decoders with random weights, each exported once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, form: str, configuration: str = CONFIGURATION) -> Path:
        """The file of a decoder in a form: ops and precision, as ``fused.float16``."""
        path = self._folder / f"{configuration}.{form}.onnx"
        if not path.is_file():
            ops, precision = form.split(".")
            source = random_decoder(configuration)
            served = served_decoder(source.decoder, getattr(torch, precision), fused=ops == "fused")
            path.write_bytes(decoder_graph(served, source.network.lr).SerializeToString())
        return path
