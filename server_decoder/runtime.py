"""Run a decoder on ONNX Runtime: LR in, picture out, on the device that was asked for or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgegrain.contract.errors import BundleError, DeviceError, ImageError
from edgegrain.contract.quantization import dequantize, quantize
from server_decoder.cuda_ops.library import needs_library, register_library

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["cpu", "cuda"]

PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Device -> ONNX Runtime's execution provider."""

INPUT, OUTPUT = "lr", "hr"


class DecoderSession:
    """A decoder, loaded once and used from any number of threads.

    The model takes ``lr`` float32 ``[B, 3, h, w]`` in [-1, 1] and gives ``hr`` float32 ``[B, 3, H, W]`` in about
    [-1, 1], any B. Its weights may be stored as float16; they are widened while it loads.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        lr_size: (width, height) of the LR it takes; None where the model leaves it open.
        providers: ONNX Runtime's execution providers that are active, the first one preferred.
    """

    def __init__(
        self, model: bytes | str | os.PathLike[str], device: Device = "cpu", threads: int | None = None
    ) -> None:
        """Load a decoder.

        Args:
            model: the bytes of an ONNX file, or its path.
            device: where it runs. ``"cuda"`` needs onnxruntime-gpu, the extra ``edgegrain[gpu]``.
            threads: threads that work on one picture on the CPU; None for ONNX Runtime's choice (all cores).

        Raises:
            DeviceError: the device is unknown, or its provider is not installed or did not become active; or the model
                has fused ops, and their library is not built or not for this device (docs/cuda_ops.md).
            BundleError: the model cannot be read, or is no decoder of this kind.
        """
        import onnxruntime

        self.device = device
        provider = require_provider(device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: why a provider failed is said by the exception below
        if threads is not None:
            if threads < 1:
                raise DeviceError(f"threads must be at least 1, got {threads}")
            options.intra_op_num_threads = threads
        source = bytes(model) if isinstance(model, (bytes, bytearray, memoryview)) else str(Path(model))
        if needs_library(source):
            register_library(options, device)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=_chain(provider))
        except Exception as error:  # ONNX Runtime has no common class for what a damaged model raises
            raise BundleError(f"the decoder cannot be loaded: {_first_line(error)}") from error
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        if provider not in self.providers:
            raise DeviceError(_not_active(device, provider, self.providers))
        self._session.disable_fallback()  # a provider that fails later must fail, not move to the CPU
        self.lr_size = _check_signature(self._session)

    def decode(self, lr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Decode LRs, uint8 ``[B, h, w, 3]``, to pictures, uint8 ``[B, H, W, 3]``.

        Raises:
            ImageError: ``lr`` has another type, rank or size than the decoder takes.
            DeviceError: the device failed, for instance for lack of memory.
        """
        if not isinstance(lr, np.ndarray) or lr.dtype != np.uint8 or lr.ndim != 4 or lr.shape[3] != 3 or not lr.size:
            found = f"{lr.dtype} {list(lr.shape)}" if isinstance(lr, np.ndarray) else type(lr).__name__
            raise ImageError(f"the decoder takes LRs as uint8 [B, h, w, 3], got {found}")
        if self.lr_size is not None and lr.shape[2:0:-1] != self.lr_size:
            width, height = self.lr_size
            raise ImageError(
                f"the decoder takes LRs of {width} x {height}, got {lr.shape[2]} x {lr.shape[1]}; "
                "load the bundle the LR was made with"
            )
        values = dequantize(lr.astype(np.float32)).transpose(0, 3, 1, 2)  # [B, 3, h, w]
        try:
            (hr,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(values)})
        except Exception as error:
            raise DeviceError(f"decoding failed on {self.device}: {_first_line(error)}") from error
        return np.ascontiguousarray(quantize(hr).transpose(0, 2, 3, 1))

    def warm_up(self, batch: int = 1) -> None:
        """Decode a grey LR once, so that the first real one does not pay for memory and kernel selection."""
        if self.lr_size is None:
            raise BundleError("the decoder leaves its LR size open; warm it up by decoding an LR of the size you use")
        width, height = self.lr_size
        self.decode(np.full((batch, height, width, 3), 128, np.uint8))


def require_provider(device: str) -> str:
    """ONNX Runtime's execution provider for a device; says nothing yet about whether it will start.

    Raises:
        DeviceError: the device is unknown, or its provider is not installed; the message says what to install.
    """
    import onnxruntime

    if device not in PROVIDERS:
        raise DeviceError(f"unknown device {device!r}, expected one of {', '.join(PROVIDERS)}")
    provider, available = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            f"device {device!r} needs {provider}, this ONNX Runtime has only {', '.join(available)}; "
            "install edgegrain[gpu] (onnxruntime-gpu instead of onnxruntime, never both)"
        )
    return provider


def _chain(provider: str) -> list[str]:
    # Shape arithmetic has kernels on the CPU only, so it stands behind CUDA; the check above is that CUDA is active.
    return list(dict.fromkeys([provider, PROVIDERS["cpu"]]))


def _not_active(device: str, provider: str, active: tuple[str, ...]) -> str:
    return (
        f"device {device!r} was asked for, but {provider} did not start; active: {', '.join(active)}. Its CUDA or "
        "cuDNN libraries or the driver are missing or too old; install edgegrain[gpu] and run 'edgegrain doctor'"
    )


def _check_signature(session: onnxruntime.InferenceSession) -> tuple[int, int] | None:
    """The LR size, after checking that the model is a decoder: ``lr`` -> ``hr``, float32, rank 4."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for kind, name, found in (("input", INPUT, inputs), ("output", OUTPUT, outputs)):
        right = [(item.name, item.type, len(item.shape)) for item in found] == [(name, "tensor(float)", 4)]
        if not right or (isinstance(found[0].shape[1], int) and found[0].shape[1] != 3):
            signature = ", ".join(f"{item.name} {item.type} {item.shape}" for item in found) or "nothing"
            raise BundleError(
                f"not a decoder: its {kind} is {signature}, expected {name!r}, tensor(float) [B, 3, height, width]")
    height, width = inputs[0].shape[2:]
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
