"""The encoder as TFLite through ONNX and onnx2tf, in a process of its own.

onnx2tf takes the ONNX model of one picture with float32 weights. It puts transpositions around additions and turns
some depthwise convolutions into grouped ones: the bytes are the same, the file is a little slower.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import INPUT
from export.encoder.graph import EncoderGraph
from export.encoder.onnx_emitter import onnx_model

_SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""Pictures that onnx2tf otherwise downloads, to compare its layers with ONNX Runtime."""


def convert(graph: EncoderGraph) -> bytes:
    """The flatbuffer that onnx2tf makes.

    Raises:
        ExportError: onnx2tf is not installed, or fails.
    """
    command = _command()
    with tempfile.TemporaryDirectory(prefix="edgegrain-onnx2tf-") as folder:
        source, out = Path(folder) / "encoder.onnx", Path(folder) / "out"
        source.write_bytes(onnx_model(graph, batch=1, int8=False).SerializeToString())
        np.save(Path(folder) / _SAMPLES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
        process = subprocess.run(
            [*command, "-i", str(source), "-o", str(out), "-kat", INPUT, "-coion", "-n"], cwd=folder,
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        written = out / "encoder_float32.tflite"
        if process.returncode or not written.is_file():
            raise ExportError(f"onnx2tf failed with status {process.returncode}: {process.stdout[-2000:]}")
        return written.read_bytes()


def _command() -> list[str]:
    """onnx2tf of this environment or, as it pins NumPy, ONNX Runtime and more, of its own on PATH."""
    if importlib.util.find_spec("onnx2tf"):
        return [sys.executable, "-m", "onnx2tf"]
    if found := shutil.which("onnx2tf"):
        return [found]
    raise ExportError("this converter needs onnx2tf, which is not installed; pip install 'edgegrain[onnx2tf]' "
                      "(Python 3.11 or 3.12), or in an environment of its own: pipx install onnx2tf==1.29.24")
