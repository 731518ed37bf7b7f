"""Comparison of exported decoders with torch on real LRs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from codec_contract.errors import ExportError
from codec_contract.onnx_runtime import refuse_external_weights
from codec_contract.pixels import HALF_RANGE, network_input, pictures_of
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.decoder.decoder_options import HALF_PSNR, Precision
from export.decoder.served import noise_maps, noise_sides
from export.proof.proof_inputs import make_inputs
from server_decoder.cuda_ops.library import needs_library, register_library
from server_decoder.decoder_session import INPUT, NOISE, OUTPUT, DecoderSession
from server_decoder.grain.grain import Grain

TOLERANCE = 1e-4
"""Largest difference of a float32 graph from torch, which sums in another order."""


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
        decoder: in float32.
        lrs: to compare on.
        precision: of the graph.

    Raises:
        ExportError: the outputs differ by more than `TOLERANCE`, or a picture by more than one level; in float16 the
            PSNR is below `HALF_PSNR`.
        BundleError: the model cannot be read, or is no decoder.
        DeviceError: the graph has fused ops, and their library is not built.
    """
    session = DecoderSession(model)  # also refuses what is no decoder
    seeded = decoder if isinstance(decoder, Grain) and session.takes_seed else None
    sides = noise_sides(seeded.prior) if seeded is not None and seeded.prior is not None else ()
    noise = np.random.default_rng(0).standard_normal((1, sum(side**2 for side in sides)), np.float32)
    maps = noise_maps(torch.from_numpy(noise), sides)
    with torch.no_grad():
        expected = torch.cat([
            decoder(one[None]) if seeded is None else seeded.forward_all(one[None], noise=maps).final
            for one in torch.from_numpy(network_input(lrs))]).numpy()
    batch = max(1, 8 * 256**2 // expected.shape[-1] ** 2)  # fewer large pictures at once
    parts = np.split(lrs, range(batch, len(lrs), batch))
    values = None
    if session.quantizes:
        pictures = np.concatenate([session.decode(part) for part in parts])
    else:
        del session  # its weights would be there twice
        values = _values(model, parts, noise)
        pictures = pictures_of(values)
    steps = np.abs(pictures.astype(np.int16) - pictures_of(expected))
    error = steps / np.float32(HALF_RANGE) if values is None else values - expected
    # Beyond [-1, 1] a picture is black or white. There a value of 20 differs between float32 and float64 by 1e-4.
    seen = error if values is None else values.clip(-1, 1) - expected.clip(-1, 1)
    difference = float(np.abs(seen).max())
    psnr = 10 * math.log10(4 / max(float(np.square(error, dtype=np.float64).mean()), 4e-20))
    exact = precision is Precision.float32 and values is not None
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


def _values(model: bytes, parts: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Pictures before they are rounded, float32 ``[N, 3, H, W]``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning about optional inputs
    refuse_external_weights(options)
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False  # a decoder for 1024 x 1024 needs gigabytes
    if needs_library(model):
        register_library(options)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    takes_noise = any(item.name == NOISE for item in session.get_inputs())
    return np.concatenate([
        session.run([OUTPUT], {INPUT: network_input(part),
                               **({NOISE: noise.repeat(len(part), axis=0)} if takes_noise else {})})[0]
        for part in parts])
