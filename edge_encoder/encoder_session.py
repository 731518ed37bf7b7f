"""`EncoderSession`: an exact encoder on ONNX Runtime, from pictures to LRs, with the same bytes as on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codec_contract.errors import BundleError, first_line
from codec_contract.onnx_runtime import refuse_external_weights, set_threads
from edge_encoder.integer_network import INPUT, check_pictures

if TYPE_CHECKING:
    import onnxruntime


class EncoderSession:
    """An encoder, loaded once and used from any number of threads.

    It always runs on the CPU: it takes milliseconds, and float32 is not replaced by a shorter type there.

    Attributes:
        hr: side of the square picture it takes, in pixels.
        lr: side of the square LR that it makes.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        """Load the bytes of an ``encoder.onnx``; ``threads`` work on one picture, None for all cores."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        set_threads(options, threads)
        refuse_external_weights(options)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise BundleError(f"the encoder cannot be loaded: {first_line(error)}") from error
        self.hr = _square(self._session.get_inputs(), INPUT)
        self.lr = _square(self._session.get_outputs(), "lr")

    def encode(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Encode pictures, uint8 ``[N, hr, hr, 3]``, to LRs, uint8 ``[N, lr, lr, 3]``."""
        check_pictures(pictures, self.hr)
        (lr,) = self._session.run(["lr"], {INPUT: np.ascontiguousarray(pictures)})
        return np.asarray(lr, dtype=np.uint8)


def _square(signature: list[onnxruntime.NodeArg], name: str) -> int:
    """The side of the one tensor in ``signature``, which must be ``name``, uint8 [N, side, side, 3]."""
    if [(item.name, item.type, len(item.shape)) for item in signature] == [(name, "tensor(uint8)", 4)]:
        _, height, width, channels = signature[0].shape
        if isinstance(height, int) and (height, channels) == (width, 3):
            return height
    found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in signature) or "nothing"
    raise BundleError(f"not an encoder: it has {found}, expected {name!r}, tensor(uint8) [N, side, side, 3]")
