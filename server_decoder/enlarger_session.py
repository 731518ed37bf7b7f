"""Runs an enlarger on ONNX Runtime: restored square in, square of 2 or 4 times its side out.

Every graph doubles the sides. The second one takes the features and the unrounded picture of the first, which stay on
the device, so factor 4 costs the weights of the second doubling only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codec_contract.bundle.manifest import ENLARGEMENTS
from codec_contract.errors import BundleError, ImageError
from codec_contract.pixels import Rgb, describe_array
from server_decoder.providers import (
    CudaOptions,
    Device,
    create_session,
    device_failure,
    outside_captures,
    require_provider,
    session_options,
)

if TYPE_CHECKING:
    import onnxruntime

PICTURE, ENLARGED, FEATURES, VALUES = "picture", "enlarged", "features", "values"
FLOAT32_FILES = tuple(f"enlarger_x{factor}.onnx" for factor in ENLARGEMENTS)
"""Names by which the files of the form in int8 refer to those in float32, whatever a bundle calls them."""
_LEVELS, _FLOATS = "tensor(uint8)", "tensor(float)"
_End = tuple[str, int, int | None]  # type, position of the height in the shape, side or None for any


class EnlargerSession:
    """An enlarger, loaded once and used from any number of threads.

    The first graph takes ``picture`` uint8 ``[B, S, S, 3]`` and gives ``enlarged`` uint8 ``[B, 2S, 2S, 3]``, any B. If
    there is a second, the first also gives ``features`` float32 ``[B, C, h, w]`` of any size and ``values``, the
    picture before it is rounded, float32 ``[B, 3, 2S, 2S]``; the second takes both and gives ``enlarged`` uint8
    ``[B, 4S, 4S, 3]``.

    Attributes:
        side: side S of the squares it takes, in pixels.
        factors: by which it enlarges their sides, ascending.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self,
        models: Sequence[bytes],
        side: int,
        device: Device = "cpu",
        threads: int | None = None,
        weights: Sequence[bytes] = (),
    ) -> None:
        """Load the ONNX files, one for each doubling, for squares of ``side`` pixels; ``weights``: the float32 files,
        to which those in int8 refer; others as `DecoderSession`."""
        if not 1 <= len(models) <= len(ENLARGEMENTS):
            raise BundleError(f"an enlarger has 1 or {len(ENLARGEMENTS)} files, got {len(models)}")
        self.side, self.device = side, device
        self.factors = ENLARGEMENTS[: len(models)]
        require_provider(device)
        options = session_options(device, threads)
        if weights:
            named = dict(zip(FLOAT32_FILES, weights, strict=False))
            options.add_external_initializers_from_files_in_memory(
                list(named), list(named.values()), list(map(len, named.values()))
            )
        self._sessions = [
            create_session(bytes(model), options, device, "enlarger", CudaOptions(graphs=False)) for model in models
        ]
        for step, session in enumerate(self._sessions):
            _check_signature(session, step, side * 2**step, last=step == len(models) - 1)

    def enlarge(self, pictures: Rgb, factor: int) -> Rgb:
        """Enlarge squares, uint8 ``[N, side, side, 3]``, to uint8 ``[N, factor * side, factor * side, 3]``.

        The network runs once per picture, so the memory for its activations does not grow with N.
        """
        side, large = self.side, factor * self.side
        if factor not in self.factors:
            raise ImageError(f"the enlarger has the factors {', '.join(map(str, self.factors))}, not {factor}")
        if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[1:] != (side, side, 3):
            raise ImageError(
                f"the enlarger takes pictures as uint8 [N, {side}, {side}, 3], got {describe_array(pictures)}"
            )
        enlarged = np.empty((len(pictures), large, large, 3), np.uint8)
        for index in range(len(pictures)):
            try:
                with outside_captures(self.device):
                    made = self._run(np.ascontiguousarray(pictures[index : index + 1]), self.factors.index(factor))
            except Exception as error:  # ONNX Runtime's exceptions have no common class
                raise device_failure(error, self.device, "enlarging") from error
            if made.shape[1:] != enlarged.shape[1:]:
                raise BundleError(
                    f"the enlarger made a picture of {list(made.shape[1:])}, expected [{large}, {large}, 3]"
                )
            enlarged[index] = made[0]
        return enlarged

    def _run(self, picture: Rgb, last: int) -> Rgb:
        """The picture of the doubling number ``last`` for a picture ``[1, side, side, 3]``."""
        handed: dict[str, onnxruntime.OrtValue] = {}
        for step, session in enumerate(self._sessions[: last + 1]):
            binding = session.io_binding()
            if step == 0:
                binding.bind_cpu_input(PICTURE, picture)
            for name, value in handed.items():
                binding.bind_ortvalue_input(name, value)
            wanted = (ENLARGED,) if step == last else (FEATURES, VALUES)
            for name in wanted:
                binding.bind_output(name, "cpu" if step == last else self.device)
            session.run_with_iobinding(binding)
            handed = dict(zip(wanted, binding.get_outputs(), strict=True))
        made: Rgb = handed[ENLARGED].numpy()
        return made


def _check_signature(session: onnxruntime.InferenceSession, step: int, side: int, *, last: bool) -> None:
    """Refuse a model that is not the doubling number ``step`` of squares of ``side`` pixels."""

    def handed(length: int) -> dict[str, _End]:
        return {VALUES: (_FLOATS, 2, length), FEATURES: (_FLOATS, 2, None)}

    inputs = {PICTURE: (_LEVELS, 1, side)} if step == 0 else handed(side)
    outputs = {ENLARGED: (_LEVELS, 1, 2 * side), **({} if last else handed(2 * side))}
    for role, found, wanted in (("input", session.get_inputs(), inputs), ("output", session.get_outputs(), outputs)):
        if {item.name for item in found} != wanted.keys() or not all(_fits(item, *wanted[item.name]) for item in found):
            signature = ", ".join(f"{item.name} {item.type} {item.shape}" for item in found) or "nothing"
            raise BundleError(
                f"file {step + 1} of the enlarger does not double squares of {side} pixels: its {role} "
                f"is {signature}, expected {', '.join(wanted)}"
            )


def _fits(end: onnxruntime.NodeArg, kind: str, rows: int, side: int | None) -> bool:
    """True for maps of this type whose height and width, the latter after the former, are the side, unless that is
    None."""
    return end.type == kind and len(end.shape) == 4 and (side is None or end.shape[rows : rows + 2] == [side, side])
