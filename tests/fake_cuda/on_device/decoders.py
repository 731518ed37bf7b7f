"""Small decoders as ONNX files."""

from __future__ import annotations

from pathlib import Path

import torch

from export.decoder.decoder_graph import decoder_graph
from export.decoder.sources import random_decoder
from server_decoder.inference import served_decoder

FORMS = ("plain.float32", "plain.float16", "fused.float16")


def exported(form: str, folder: Path, configuration: str = "grain-smoke") -> Path:
    """The file of a decoder with random weights in a form: ops and precision."""
    ops, precision = form.split(".")
    source = random_decoder(configuration)
    served = served_decoder(source.decoder, getattr(torch, precision), fused=ops == "fused")
    path = folder / f"{configuration}.{form}.onnx"
    path.write_bytes(decoder_graph(served, source.network.lr).SerializeToString())
    return path
