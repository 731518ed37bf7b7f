"""The encoder as TFLite through litert-torch, Google's converter from torch; it needs no TensorFlow."""

from __future__ import annotations

import tempfile
from pathlib import Path

from codec_contract.errors import ExportError
from export.encoder.graph import EncoderGraph


def convert(graph: EncoderGraph) -> bytes:
    """The flatbuffer that litert-torch makes.

    Raises:
        ExportError: litert-torch is not installed.
    """
    try:
        import litert_torch
        import torch
    except ImportError as error:
        raise ExportError(f"this converter needs litert-torch ({error}); "
                          "pip install 'edgegrain[litert-torch]'") from error
    from export.encoder.torch_graph import TorchGraph

    picture = torch.zeros(1, graph.hr, graph.hr, 3, dtype=torch.uint8)
    converted = litert_torch.convert(TorchGraph(graph).eval(), (picture,))
    with tempfile.TemporaryDirectory(prefix="edgegrain-tflite-") as folder:
        path = Path(folder) / "encoder.tflite"
        converted.export(str(path))
        return path.read_bytes()
