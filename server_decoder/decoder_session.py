"""Runs a decoder on ONNX Runtime: LR in, picture out, on the requested device or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import BundleError, DeviceError, ImageError, first_line
from codec_contract.pixels import describe_array, network_input, pictures_of
from server_decoder import providers
from server_decoder.bound_runs import BoundRuns
from server_decoder.cuda_ops.library import DOMAIN, contains, register_library
from server_decoder.providers import CudaOptions, Device

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "lr", "hr"
LATENT = "z"
"""Optional input of IRN's decoders: the part of a picture that its LR does not determine; by default the likeliest."""
STRENGTH = "strength"
"""Optional input of GCFSR's decoders: the factor s of every picture."""
STEP = "step"
"""Optional input of decoders for several rates: the step of the levels of every LR."""
_CAST_TO_HALF = b"\n\x02to\x18\n"
"""In ONNX files of decoders that compute in float16: the attribute ``to`` of a Cast, with the value float16."""


class DecoderSession:
    """A decoder, loaded once and used from any number of threads.

    The model has one of two signatures, any B: ``lr`` float32 ``[B, 3, h, w]`` in [-1, 1] and ``hr`` float32
    ``[B, 3, H, W]`` in about [-1, 1], which are quantized here; or ``lr`` uint8 ``[B, h, w, 3]`` and ``hr`` uint8
    ``[B, H, W, 3]``, if the graph quantizes (``quantizes``). A model may also take `STRENGTH`, a factor s per picture
    ([GCFSR] 3.5), or `STEP`, float32 ``[B]``: its ``controls``. ``lr_size`` is (width, height) of the LR; None if the
    model leaves it open. ``graphs`` is true if batch sizes that were warmed up are replayed as CUDA graphs.
    """

    def __init__(
        self,
        model: bytes | str | Path,
        device: Device = "cpu",
        threads: int | None = None,
        *,
        memory_limit: int | None = None,
        cuda: CudaOptions | None = None,
        strength: float | None = None,
        step: int | None = None,
        weights: tuple[str, bytes] | None = None,
    ) -> None:
        """Load a decoder, given as the bytes of an ONNX file or its path.

        A batch that needs more bytes for weights and activations than ``memory_limit`` raises a `DeviceMemoryError`;
        ONNX Runtime 1.31 on the CPU counts activations only. ``strength`` and ``step`` are of pictures that are decoded
        without one. ``weights``: name and bytes of another file to which the model refers.
        """
        self.device = device
        cuda = cuda or CudaOptions()
        providers.require_provider(device)
        if memory_limit is not None and memory_limit < 1:
            raise DeviceError(f"memory_limit is in bytes and at least 1, got {memory_limit}")
        source = model if isinstance(model, bytes) else str(model)
        options = providers.session_options(device, threads, in_memory=isinstance(source, bytes))
        self.fused = contains(source, DOMAIN.encode())
        if self.fused:
            register_library(options, device, device_id=cuda.device_id)
        if weights is not None:
            options.add_external_initializers_from_files_in_memory([weights[0]], [weights[1]], [len(weights[1])])
        with providers.limited_arena(options, memory_limit if device == "cpu" else None):
            self._session, self.graphs = _start(source, options, device, cuda, memory_limit)
        self.providers: list[str] = self._session.get_providers()
        self.lr_size, self.quantizes = _check_signature(self._session)
        self.controls = _controls(self._session)
        given = {STRENGTH: strength, STEP: step}
        self._defaults = {name: value for name in self.controls if (value := given[name]) is not None}
        self._bound = BoundRuns(self._session, device, cuda.device_id, graphs=self.graphs) if device == "cuda" else None

    def decode(self, lr: npt.NDArray[np.uint8], **inputs: Any) -> npt.NDArray[np.uint8]:
        """Decode LRs, uint8 ``[B, h, w, 3]``, to pictures, uint8 ``[B, H, W, 3]``; ``inputs`` are those of `run`."""
        hr = self.run(lr, **inputs)
        return hr if self.quantizes else pictures_of(hr)

    def run(
        self,
        lr: npt.NDArray[np.uint8],
        *,
        z: npt.NDArray[np.float32] | None = None,
        **controls: float | Sequence[float] | None,
    ) -> npt.NDArray[Any]:
        """The model's own output for LRs, uint8 ``[B, h, w, 3]``.

        ``z`` is float32 ``[B, C, h, w]``, for models with that input (`LATENT`); each of the ``controls`` is one number
        for all pictures or one each.
        """
        feeds = self._feeds(lr)
        if z is not None:
            feeds[LATENT] = z
        feeds |= {name: self._control(name, value, len(lr)) for name, value in controls.items() if value is not None}
        try:
            return self._bound.run(feeds) if self._bound else self._session.run([OUTPUT], feeds)[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common class
            raise providers.device_failure(error, self.device, "decoding") from error

    def warm_up(self, batch: int | Iterable[int] = 1) -> None:
        """Decode grey LRs, so that allocation and kernel selection happen before the first request.

        On CUDA all these batch sizes keep their buffers and are replayed as CUDA graphs (`graphs`).
        """
        if self.lr_size is None:
            raise BundleError("the decoder leaves its LR size open; warm it up by decoding an LR of the size you use")
        width, height = self.lr_size
        for size in [batch] if isinstance(batch, int) else batch:
            grey = np.full((size, height, width, 3), 128, np.uint8)
            if self._bound is None:
                self.decode(grey)
                continue
            try:
                self._bound.keep(self._feeds(grey))
            except Exception as error:
                raise providers.device_failure(error, self.device, f"warming up for batches of {size}") from error
            self.graphs = self._bound.graphs

    def _feeds(self, lr: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        if not isinstance(lr, np.ndarray) or lr.dtype != np.uint8 or lr.ndim != 4 or lr.shape[3] != 3 or not lr.size:
            raise ImageError(f"the decoder takes LRs as uint8 [B, h, w, 3], got {describe_array(lr)}")
        if self.lr_size is not None and lr.shape[2:0:-1] != self.lr_size:
            width, height = self.lr_size
            raise ImageError(
                f"the decoder takes LRs of {width} x {height}, got {lr.shape[2]} x {lr.shape[1]}; "
                "load the bundle the LR was made with"
            )
        values = np.ascontiguousarray(lr) if self.quantizes else network_input(lr)
        feeds: dict[str, npt.NDArray[Any]] = {INPUT: values}
        for name, value in self._defaults.items():  # always given, so that buffers and CUDA graphs fit every batch
            feeds[name] = self._control(name, value, len(values))
        return feeds

    def _control(self, name: str, given: float | Sequence[float], count: int) -> npt.NDArray[np.float32]:
        """float32 ``[count]``."""
        if name not in self.controls:
            raise ImageError(f"this decoder takes no {name}; decode without one")
        values = np.asarray(given, np.float32)
        if values.shape not in ((), (count,)):
            raise ImageError(f"a batch of {count} takes one {name}, or {count}; got {values.size}")
        return np.ascontiguousarray(np.broadcast_to(values, (count,)))


def _controls(session: onnxruntime.InferenceSession) -> set[str]:
    """The controls that may be given: inputs that have a default in the file."""
    found = {item.name: item for item in session.get_overridable_initializers() if item.name in (STRENGTH, STEP)}
    for name, item in found.items():
        if (item.type, len(item.shape)) != ("tensor(float)", 1):
            raise BundleError(f"not a decoder: it takes {name} as {item.type} {item.shape}, expected tensor(float) [B]")
    return set(found)


def _start(
    source: bytes | str,
    options: onnxruntime.SessionOptions,
    device: Device,
    cuda: CudaOptions,
    memory_limit: int | None,
) -> tuple[onnxruntime.InferenceSession, bool]:
    """The session, and True if it captures CUDA graphs; a warning says why it does not although it should."""
    import onnxruntime

    graphs, version, reason = device == "cuda" and cuda.graphs, onnxruntime.__version__, ""
    if graphs and not providers.can_replay_graphs(version):
        reason = f"ONNX Runtime {version} replays them with wrong pictures; install onnxruntime-gpu 1.30 or newer"
    elif graphs and not cuda.prefer_nhwc and contains(source, b"ConvTranspose") and not contains(source, _CAST_TO_HALF):
        reason = (
            "cuDNN's transposed convolutions of float32 maps that are channels-first fail in them on an H200; "
            "export the decoder with --ops fused, or pass CudaOptions(prefer_nhwc=True)"
        )
    if not reason:
        try:
            return providers.create_session(source, options, device, "decoder", cuda, memory_limit), graphs
        except (BundleError, DeviceError) as error:
            cause = error.__cause__
            if not graphs or cause is None or "graph capture" not in str(cause):
                raise
            reason = first_line(cause)
    logger.warning("this decoder runs without CUDA graphs: %s", reason)
    return _start(source, options, device, replace(cuda, graphs=False), memory_limit)


_FORMS = {"tensor(float)": ("[B, 3, height, width]", 1), "tensor(uint8)": ("[B, height, width, 3]", 3)}
"""Type of the LR and of the picture -> their shape, and the position of the channels in it."""


def _check_signature(session: onnxruntime.InferenceSession) -> tuple[tuple[int, int] | None, bool]:
    """`DecoderSession.lr_size` and ``quantizes``, after checking that the model is a decoder, as described there."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kind = inputs[0].type if inputs and inputs[0].type in _FORMS else "tensor(float)"
    form, channels = _FORMS[kind]
    for role, name, found in (("input", INPUT, inputs), ("output", OUTPUT, outputs)):
        right = [(item.name, item.type, len(item.shape)) for item in found] == [(name, kind, 4)]
        if not right or (isinstance(found[0].shape[channels], int) and found[0].shape[channels] != 3):
            signature = ", ".join(f"{item.name} {item.type} {item.shape}" for item in found) or "nothing"
            raise BundleError(f"not a decoder: its {role} is {signature}, expected {name!r}, {kind} {form}")
    height, width = [size for position, size in enumerate(inputs[0].shape) if position not in (0, channels)]
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    return size, kind == "tensor(uint8)"
