"""Comparison of exported decoders with torch on real LRs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from codec_contract.errors import ExportError
from codec_contract.quantization import HALF_RANGE, network_input, pictures_of
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.decoder.decoder_options import HALF_PSNR, Precision
from export.decoder.live_memory import largest_live_bytes, weight_bytes
from export.decoder.onnx_pictures import decode, decode_separately
from export.decoder.served import noise_maps, noise_sides
from export.proof.proof_inputs import make_inputs
from export.separate_process import require_memory
from server_decoder.decoder_session import NOISE
from server_decoder.grain.grain import Grain

TOLERANCE = 1e-4
"""Largest difference of a float32 graph from torch, which sums in another order."""

BATCH = 8
"""Pictures of 256 x 256 that ONNX Runtime decodes at once; fewer of larger ones."""

MEMORY_FACTOR = 2.5
"""Memory of a decoder that runs, without its weights, relative to the largest sum of values that exist together."""
SEPARATE_FROM = 2 * 10**9
"""Bytes from which on the export runs in a process of its own while torch's decoder waits: one of them at a time."""


@dataclass(frozen=True)
class Comparison:
    """An exported decoder compared with its torch module.

    Attributes:
        lrs: LR pictures decoded by both.
        largest_difference: of output values, clipped to [-1, 1]; of levels on that scale if the graph quantizes.
        psnr: of the exported decoder's values against torch's, in dB with a peak of 2; 200 stands for equality.
        differing_bytes: share of the restored pictures' bytes that differ (in float32 never by more than one level).
    """

    lrs: int
    largest_difference: float
    psnr: float
    differing_bytes: float


def compare_decoder(model: bytes, decoder: nn.Module, lrs: np.ndarray, precision: Precision = Precision.float32
                    ) -> Comparison:
    """Compare the exported graph with torch on ``lrs``, uint8 ``[N, h, w, 3]``; the graph decodes several at once.

    Args:
        model: the graph.
        decoder: in float32, before `served_decoder` changed its form.
        lrs: to compare on.
        precision: of the graph.

    Raises:
        ExportError: the outputs differ by more than `TOLERANCE`, or a picture by more than one level; in float16 the
            PSNR is below `HALF_PSNR`; memory is too short for the comparison.
        DeviceError: the graph has fused ops, and their library is not built.
    """
    graph = onnx.load_model_from_string(model)
    takes_noise = NOISE in {item.name for item in graph.graph.input}
    seeded = decoder if isinstance(decoder, Grain) and takes_noise else None
    sides = noise_sides(seeded.prior) if seeded is not None and seeded.prior is not None else ()
    noise = np.random.default_rng(0).standard_normal((1, sum(side**2 for side in sides)), np.float32)
    maps = noise_maps(torch.from_numpy(noise), sides)
    side = max(size.dim_value for item in graph.graph.output for size in item.type.tensor_type.shape.dim)
    batch = min(len(lrs), max(1, BATCH * 256**2 // max(1, side) ** 2))
    needed = 2 * weight_bytes(graph) + round(MEMORY_FACTOR * batch * largest_live_bytes(graph))
    del graph
    require_memory(needed, "comparing the decoder with torch")
    with torch.no_grad():
        expected = torch.cat([
            decoder(one[None]) if seeded is None else seeded.forward_all(one[None], noise=maps).final
            for one in torch.from_numpy(network_input(lrs))]).numpy()
    decoded = (decode_separately if needed >= SEPARATE_FROM else decode)(model, lrs, noise, batch)
    steps = np.abs(decoded.pictures.astype(np.int16) - pictures_of(expected))
    error = steps / np.float32(HALF_RANGE) if decoded.values is None else decoded.values - expected
    # Beyond [-1, 1] a picture is black or white. There a value of 20 differs between float32 and float64 by 1e-4.
    seen = error if decoded.values is None else decoded.values.clip(-1, 1) - expected.clip(-1, 1)
    difference = float(np.abs(seen).max())
    psnr = 10 * math.log10(4 / max(float(np.square(error, dtype=np.float64).mean()), 4e-20))
    exact = precision is Precision.float32 and decoded.values is not None
    if exact and not difference <= TOLERANCE:  # also refuses NaN
        raise ExportError(f"the exported decoder differs from torch by {difference:g}, more than {TOLERANCE:g}")
    if not psnr >= HALF_PSNR:
        raise ExportError(f"the exported decoder reaches {psnr:.1f} dB against torch, less than {HALF_PSNR:g}")
    levels = int(steps.max())
    if precision is Precision.float32 and levels > 1:
        raise ExportError(f"a restored picture differs from torch's by {levels} levels, more than 1")
    return Comparison(len(lrs), difference, round(psnr, 1), float((steps > 0).mean()))


def real_lrs(network: IntegerNetwork, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs of pictures, then of generated patterns."""
    inputs = make_inputs(network.hr, max(count, 8), network=network, pictures=pictures)
    return run_reference(network, np.stack([item.picture for item in itertools.islice(inputs, count)]))
