"""A decoder and the enlarger of its bundle as one graph: LR in, picture of 2 or 4 times the decoder's size out.

For servers that run ONNX files themselves (Triton, ONNX Runtime). The graph rounds the decoder's picture to levels
before it is enlarged, as the SDK and the service do, so both give the same picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.compose
import onnx.utils

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ExportError
from codec_contract.rgb import Rgb
from export.decoder.command import ExportedDecoder
from export.decoder.comparison import real_lrs
from export.decoder.decoder_options import Pixels
from export.decoder.value_names import rename_values
from export.proof.proof_inputs import find_pictures
from server_decoder import decoder_session
from server_decoder.decoder_session import DecoderSession
from server_decoder.super_resolution.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession

_PREFIX = "enlarger."
_RESTORED = "decoder.hr"  # the decoder's picture
_COMPARED = 2  # LRs
LARGEST_STEP = 1
"""Most levels by which the graph may differ from both networks one after the other."""


def enlarger_factor(manifest: Manifest | None, size: int) -> int:
    """The factor by which the enlarger makes pictures with sides of ``size`` pixels, 1 for the decoder's own size.

    Args:
        manifest: of the bundle; None for decoders that are no bundle's.
        size: in pixels.

    Raises:
        ExportError: the bundle does not restore this size.
    """
    sides = () if manifest is None else manifest.sides
    if size not in sides:
        known = ", ".join(map(str, sides)) or "none, because it is no bundle or restores tiles"
        raise ExportError(f"no decoder of {size}x{size} pixels; sizes of this one: {known}")
    return size // sides[0]


def append_enlarger(exported: ExportedDecoder, size: int) -> ExportedDecoder:
    """The decoder followed by the enlarger of its bundle, for pictures with sides of ``size`` pixels.

    Args:
        exported: a bundle's decoder that takes and gives uint8.
        size: in pixels; the decoder's own size returns ``exported``.

    Raises:
        ExportError: the bundle does not restore this size, the decoder gives float32, or the graph's pictures differ
            from those of both networks one after the other.
    """
    manifest = exported.source.manifest
    factor = enlarger_factor(manifest, size)
    if factor == 1 or manifest is None or manifest.enlarger is None:
        return exported
    if exported.options.pixel_type is not Pixels.uint8:
        raise ExportError("the enlarger takes levels; export the decoder with --pixels uint8")
    doublings = [manifest.open_file(file) for file in manifest.enlarger.files]
    model = join(exported.model, doublings[: manifest.enlarger.factors.index(factor) + 1])
    lrs = real_lrs(exported.source.network, find_pictures(), _COMPARED)
    compare(model, exported.model, EnlargerSession(doublings, manifest.hr), factor, lrs)
    return dataclasses.replace(exported, model=model, size=size)


def join(decoder: bytes, doublings: Sequence[bytes]) -> bytes:
    """One ONNX file that decodes and enlarges: ``lr`` uint8 ``[B, h, w, 3]`` -> ``hr`` uint8 ``[B, H, W, 3]``.

    Args:
        decoder: ONNX file.
        doublings: the enlarger's ONNX files up to the one that gives the picture.
    """
    joined = onnx.load_model_from_string(decoder)
    rename_values(joined, {decoder_session.OUTPUT: _RESTORED})
    handed = {PICTURE: _RESTORED}  # value of the next graph -> value of the joined one
    for step, doubling in enumerate(doublings):
        part = onnx.load_model_from_string(doubling)
        wanted = [ENLARGED] if step == len(doublings) - 1 else [VALUES, FEATURES]
        part = onnx.utils.Extractor(part).extract_model(list(handed), wanted)
        joined.ir_version = part.ir_version = max(joined.ir_version, part.ir_version)
        prefix = f"{_PREFIX}{step}."  # of the names of all values, weights and nodes
        joined = onnx.compose.merge_models(joined, part, io_map=[(old, new) for new, old in handed.items()],
                                           prefix2=prefix)
        handed = {name: prefix + name for name in wanted}
    rename_values(joined, {handed[ENLARGED]: decoder_session.OUTPUT})
    onnx.checker.check_model(joined)
    return bytes(joined.SerializeToString())


def compare(model: bytes, decoder: bytes, enlarger: EnlargerSession, factor: int, lrs: Rgb) -> None:
    """Raise `ExportError` if a joined graph differs from its parts on ``lrs``, uint8 ``[N, h, w, 3]``."""
    wanted = enlarger.enlarge(DecoderSession(decoder).decode(lrs), factor)
    joined = DecoderSession(model)
    for lr, picture in zip(lrs, wanted, strict=True):  # one by one: a batch of 1024x1024 needs gigabytes
        steps = int(np.abs(joined.decode(lr[None])[0].astype(np.int16) - picture).max())
        if steps > LARGEST_STEP:
            raise ExportError(f"the joined graph differs from decoder and enlarger by {steps} levels, more than "
                              f"{LARGEST_STEP}")
