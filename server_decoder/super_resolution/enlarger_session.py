"""Runs an enlarger on ONNX Runtime: restored square in, square of 2 or 4 times its side out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec_contract.errors import BundleError, DeviceError, ImageError
from codec_contract.rgb import Rgb, describe_array
from server_decoder.providers import (
    SILENT,
    WARNINGS,
    CudaOptions,
    Device,
    create_session,
    device_failure,
    not_active,
    preload_cuda,
    provider_chain,
    require_provider,
    start_failure,
)

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "picture", "enlarged"


class EnlargerSession:
    """An enlarger, loaded once and used from any number of threads.

    The model takes ``picture`` uint8 ``[B, side, side, 3]`` and gives ``enlarged`` uint8 ``[B, factor * side,
    factor * side, 3]``, any B.

    Attributes:
        side: side of the squares it takes, in pixels.
        factor: factor by which it enlarges their sides.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self, model: bytes | str | os.PathLike[str], side: int, factor: int, device: Device = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load an enlarger.

        Args:
            model: the bytes of an ONNX file, or its path.
            side: side of the squares that it has to take, in pixels.
            factor: factor by which it has to enlarge.
            device: ``"cpu"`` or ``"cuda"``, which needs onnxruntime-gpu, the extra ``edgegrain[gpu]``.
            threads: threads that work on one picture on the CPU; None for ONNX Runtime's choice (all cores).

        Raises:
            BundleError: the model cannot be read, or is no enlarger of this side and factor.
            DeviceError: the device is unknown, or its provider is not installed or did not become active; a
                `DeviceMemoryError` if the weights need more memory than there is.
        """
        import onnxruntime

        self.side, self.factor, self.device = side, factor, device
        require_provider(device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT if device == "cpu" else WARNINGS
        options.enable_mem_pattern = device != "cpu"  # as for decoders: a block in advance would double the memory
        if threads is not None:
            if threads < 1:
                raise DeviceError(f"threads must be at least 1, got {threads}")
            options.intra_op_num_threads = threads
        if device == "cuda":
            preload_cuda()
        source = bytes(model) if isinstance(model, (bytes, bytearray, memoryview)) else str(Path(model))
        self._session = _start(source, options, device)
        _check_signature(self._session, side, factor)

    def enlarge(self, pictures: Rgb) -> Rgb:
        """Enlarge squares, uint8 ``[N, side, side, 3]``, to uint8 ``[N, factor * side, factor * side, 3]``.

        The network runs once per picture, so the memory for its activations does not grow with N.

        Raises:
            ImageError: ``pictures`` has another type or shape.
            BundleError: the model made pictures of another size than its signature says.
            DeviceError: the device failed; a `DeviceMemoryError` if memory was short. The session stays usable.
        """
        side, large = self.side, self.factor * self.side
        if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[1:] != (side, side, 3):
            raise ImageError(f"the enlarger takes pictures as uint8 [N, {side}, {side}, 3], got "
                             f"{describe_array(pictures)}")
        enlarged = np.empty((len(pictures), large, large, 3), np.uint8)
        for index in range(len(pictures)):
            picture = np.ascontiguousarray(pictures[index : index + 1])
            try:
                made = self._session.run([OUTPUT], {INPUT: picture})[0]
            except Exception as error:  # ONNX Runtime's exceptions have no common class
                raise device_failure(error, self.device, "enlarging") from error
            if made.shape[1:] != enlarged.shape[1:]:
                raise BundleError(f"the enlarger made a picture of {list(made.shape[1:])}, expected "
                                  f"[{large}, {large}, 3]")
            enlarged[index] = made[0]
        return enlarged


def _start(source: bytes | str, options: onnxruntime.SessionOptions, device: Device) -> onnxruntime.InferenceSession:
    """The session on the device's provider; errors as `EnlargerSession`."""
    chain = provider_chain(device, CudaOptions(graphs=False), None)
    provider = chain[0] if isinstance(chain[0], str) else chain[0][0]
    try:
        session = create_session(source, options, chain)
    except Exception as error:  # ONNX Runtime has no common class for errors of a damaged model
        raise start_failure(error, device, provider, "enlarger") from error
    if provider not in session.get_providers():
        raise not_active(device, provider, tuple(session.get_providers()))
    return session


def _check_signature(session: onnxruntime.InferenceSession, side: int, factor: int) -> None:
    """Raise `BundleError` unless the model enlarges squares of ``side`` by ``factor``; the batch size is left open."""
    large = factor * side
    for role, name, found, wanted in (("input", INPUT, session.get_inputs(), side),
                                      ("output", OUTPUT, session.get_outputs(), large)):
        right = [(item.name, item.type, item.shape[1:]) for item in found] == [
            (name, "tensor(uint8)", [wanted, wanted, 3])]
        if not right:
            signature = ", ".join(f"{item.name} {item.type} {item.shape}" for item in found) or "nothing"
            raise BundleError(f"not an enlarger of factor {factor}: its {role} is {signature}, expected {name} "
                              f"tensor(uint8) [batch, {wanted}, {wanted}, 3]")
