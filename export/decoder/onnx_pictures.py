"""Pictures of an exported decoder. Without torch, so that a process of its own needs memory for the export only."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from codec_contract.onnx_runtime import refuse_external_weights
from codec_contract.quantization import network_input, pictures_of
from codec_contract.rgb import Rgb
from export.separate_process import run_module
from server_decoder.cuda_ops.library import needs_library, register_library
from server_decoder.decoder_session import INPUT, NOISE, OUTPUT, DecoderSession

Float = npt.NDArray[np.float32]

_MODEL, _INPUTS, _OUTPUTS = "model.onnx", "inputs.npz", "outputs.npz"


class Decoded(NamedTuple):
    """Pictures of an exported decoder.

    Attributes:
        pictures: uint8 ``[N, H, W, 3]``.
        values: of the graph, before they are rounded, float32 ``[N, 3, H, W]``; None if the graph rounds.
    """

    pictures: Rgb
    values: Float | None


def decode(model: bytes, lrs: Rgb, noise: Float, batch: int) -> Decoded:
    """Decode LRs with an exported graph.

    Args:
        model: the graph.
        lrs: uint8 ``[N, h, w, 3]``.
        noise: one picture's, ``[1, n]``, for graphs that take it.
        batch: pictures that are decoded at once.

    Raises:
        BundleError: the model cannot be read, or is no decoder.
        DeviceError: the graph has fused ops, and their library is not built.
    """
    served = DecoderSession(model)  # which also refuses what is no decoder
    if served.quantizes:
        return Decoded(np.concatenate([served.decode(lrs[start : start + batch])
                                       for start in range(0, len(lrs), batch)]), None)
    del served  # its weights would be there twice
    values = _values(model, lrs, noise, batch)
    return Decoded(pictures_of(values), values)


def decode_separately(model: bytes, lrs: Rgb, noise: Float, batch: int) -> Decoded:
    """As `decode`, in a process of its own.

    Raises:
        ExportError: `decode` failed, or its process was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / _MODEL).write_bytes(model)
        np.savez(path / _INPUTS, lrs=lrs, noise=noise)
        run_module(__name__, path, str(batch))
        with np.load(path / _OUTPUTS, allow_pickle=False) as outputs:
            return Decoded(outputs["pictures"], outputs.get("values"))


def _values(model: bytes, lrs: Rgb, noise: Float, batch: int) -> Float:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning about optional inputs
    refuse_external_weights(options)
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False  # a decoder for 1024 x 1024 needs gigabytes
    if needs_library(model):
        register_library(options)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    takes_noise = any(item.name == NOISE for item in session.get_inputs())
    x, parts = network_input(lrs), []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        feeds = {INPUT: part, **({NOISE: noise.repeat(len(part), axis=0)} if takes_noise else {})}
        parts.append(session.run([OUTPUT], feeds)[0])
    return np.concatenate(parts)


def _main(folder: Path, batch: int) -> None:
    with np.load(folder / _INPUTS, allow_pickle=False) as inputs:
        decoded = decode((folder / _MODEL).read_bytes(), inputs["lrs"], inputs["noise"], batch)
    outputs = {"pictures": decoded.pictures} if decoded.values is None else {**decoded._asdict()}
    np.savez(folder / _OUTPUTS, **outputs)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
