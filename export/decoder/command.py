"""The exports of ``edgegrain export decoder`` and ``edgegrain export triton``: a decoder as ONNX for the server,
compared with torch on real LRs.

A bundle of which only the trained weights are kept (in ``zoo/``) is rebuilt with its generator, which
``edgegrain prior fetch`` downloads.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from codec_contract.bundle.file_names import DECODER_ONNX
from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import write_atomically
from codec_contract.quantization import HALF_RANGE, network_input, pictures_of
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.decoder.channels_last import channels_last_graph
from export.decoder.decoder_graph import (
    decoder_graph,
    round_weights,
    store_compact,
    store_exact_halves,
    store_half,
)
from export.decoder.decoder_options import HALF_PSNR, DecoderOptions, Noise, Ops, Pixels, Precision, WeightStorage
from export.decoder.live_memory import largest_live_bytes, weight_bytes
from export.decoder.onnx_pictures import decode, decode_separately
from export.decoder.pixel_ends import add_pixel_ends
from export.decoder.sources import DecoderSource, find_decoder, random_decoder
from export.proof.proof_inputs import find_pictures, make_inputs
from export.separate_process import require_memory
from server_decoder.decoder_session import NOISE
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.inference import noise_maps, noise_sides, served_decoder
from server_decoder.prior_store import DEFAULT_PRIOR

REPORT = "decoder_report.json"
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
        largest_difference: of output values in [-1, 1]; of levels on that scale if the graph quantizes.
        psnr: of the exported decoder's values against torch's, in dB with a peak of 2; 200 stands for equality.
        differing_bytes: share of the restored pictures' bytes that differ (in float32 never by more than one level).
    """

    lrs: int
    largest_difference: float
    psnr: float
    differing_bytes: float


def real_lrs(network: IntegerNetwork, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs of pictures, then of generated patterns."""
    inputs = make_inputs(network.hr, max(count, 8), network=network, pictures=pictures)
    return run_reference(network, np.stack([item.picture for item in itertools.islice(inputs, count)]))


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
    needed = 2 * weight_bytes(graph) + round(MEMORY_FACTOR * largest_live_bytes(graph))
    del graph
    require_memory(needed, "comparing the decoder with torch")
    with torch.no_grad():
        expected = torch.cat([
            decoder(one[None]) if seeded is None else seeded.forward_all(one[None], noise=maps).final
            for one in torch.from_numpy(network_input(lrs))]).numpy()
    batch = max(1, BATCH * 256**2 // expected.shape[-1] ** 2)
    decoded = (decode_separately if needed >= SEPARATE_FROM else decode)(model, lrs, noise, batch)
    steps = np.abs(decoded.pictures.astype(np.int16) - pictures_of(expected))
    error = steps / np.float32(HALF_RANGE) if decoded.values is None else decoded.values - expected
    difference = float(np.abs(error).max())
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


def export_decoder(decoder: nn.Module, lr: int, storage: WeightStorage = WeightStorage.float32, *, ops: Ops = Ops.plain,
                   pixels: Pixels = Pixels.float32) -> bytes:
    """The serialized ONNX graph of a decoder, in the form of `served_decoder` unless it already has another form.

    With rounded storage, ``decoder``'s own weights are rounded too, so that a comparison with it compares graphs, not
    precisions.

    Args:
        decoder: for fused operators, with those of the generator (`served_decoder`).
        lr: side of the LRs.
        storage: of its weights.
        ops: operators of the graph.
        pixels: type of its input and output.

    Raises:
        ExportError: torch cannot express the decoder in ONNX, a weight is too large for float16, or the options
            exclude each other: fused operators with float32 pixels or compact weights.
    """
    if ops is Ops.fused and pixels is not Pixels.uint8:
        raise ExportError("a decoder with fused operators takes and gives uint8; export it without --pixels float32")
    if ops is Ops.fused and storage is WeightStorage.compact:
        raise ExportError("the filters of fused operators are ordered for the device, not stored as int8; export it "
                          "with --storage float16")
    if storage is not WeightStorage.float32:
        round_weights(decoder, compact=storage is WeightStorage.compact)
    if isinstance(decoder, Grain | RRDBDecoder) and type(decoder) in (Grain, RRDBDecoder):
        graph = decoder_graph(served_decoder(decoder, fused=ops is Ops.fused), lr)
    else:
        graph = decoder_graph(decoder, lr)
    if ops is Ops.fused:
        graph = channels_last_graph(graph)
        if storage is WeightStorage.float16:
            graph = store_exact_halves(graph)
    elif storage is WeightStorage.float16:
        graph = store_half(graph)
    elif storage is WeightStorage.compact:
        graph = store_compact(graph)
    if ops is Ops.plain and pixels is Pixels.uint8:
        add_pixel_ends(graph)
    return bytes(graph.SerializeToString())


@dataclass(frozen=True)
class ExportedDecoder:
    """An exported decoder that was compared with torch.

    Attributes:
        source: where it comes from.
        options: of the export.
        model: serialized ONNX model.
        comparison: with torch.
        size: side of its pictures, in pixels, if an enlarger follows (`export.decoder.enlarged_decoder`); 0 without.
    """

    source: DecoderSource
    options: DecoderOptions
    model: bytes
    comparison: Comparison
    size: int = 0

    def report(self) -> dict[str, Any]:
        """The content of ``decoder_report.json``."""
        return {
            "bundle": self.source.name, "weights": self.options.stored.value, "precision": self.options.precision.value,
            "ops": self.options.ops.value, "pixels": self.options.pixel_type.value, "noise": self.options.noise.value,
            "bytes": len(self.model), **({"size": self.size} if self.size else {}),
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, **asdict(self.comparison),
        }

    def summary(self) -> str:
        """One line for the terminal."""
        comparison = self.comparison
        step = " (by one level)" if self.options.precision is Precision.float32 else ""
        return (f"{len(self.model):,} bytes; largest difference from torch on {comparison.lrs} LRs "
                f"{comparison.largest_difference:.1e}, PSNR {comparison.psnr:.1f} dB, "
                f"{comparison.differing_bytes:.2%} of bytes differ{step}")


def choose_source(bundle: str, prior: str = DEFAULT_PRIOR, *, config: str = "", random_weights: bool = False
                  ) -> DecoderSource:
    """The decoder that the command line names: of a bundle or the zoo, or a configuration with random weights.

    Raises:
        ExportError: ``config`` and ``random_weights`` are not given together, or there is no such configuration.
        BundleError, ModelError: as `find_decoder`.
    """
    if bool(config) != random_weights:
        raise ExportError("--config and --random-weights belong together: a configuration has no trained weights")
    return random_decoder(config) if config else find_decoder(bundle, prior)


def export_compared(source: DecoderSource, options: DecoderOptions, pictures: Path | None = None, count: int = 8
                    ) -> ExportedDecoder:
    """Export a decoder and compare it with torch.

    Args:
        source: the decoder and the encoder of its LRs.
        options: of the export.
        pictures: folder of pictures to compare on; None for those that ship with edgegrain.
        count: LRs to compare on.

    Raises:
        ExportError: torch cannot express the decoder in ONNX, a weight is too large for float16, or the export differs
            from torch.
        DeviceError: the options name fused ops, and their library is not built.
    """
    found = find_pictures(pictures)
    decoder = served_decoder(source.decoder, getattr(torch, options.precision.value),
                             fused=options.ops is Ops.fused, seeded=options.noise is Noise.seeded)
    model = export_decoder(decoder, source.network.lr, options.stored, ops=options.ops, pixels=options.pixel_type)
    lrs = real_lrs(source.network, found, count)
    return ExportedDecoder(source, options, model, compare_decoder(model, source.decoder, lrs, options.precision))


def write_decoder(exported: ExportedDecoder, folder: Path, *, force: bool = False) -> Path:
    """Write ``decoder.onnx`` and ``decoder_report.json``; returns the former's path.

    Raises:
        ExistsError: a file exists and ``force`` is false.
    """
    refuse_to_replace_decoder(folder, force=force)
    path = write_atomically(folder / DECODER_ONNX, exported.model, force=force)
    report = json.dumps(exported.report(), indent=2) + "\n"
    write_atomically(folder / REPORT, report.encode(), force=force)
    return path


def refuse_to_replace_decoder(folder: Path, *, force: bool = False) -> None:
    """Raise `ExistsError` if `write_decoder` would; to call before an export."""
    existing = [path for name in (DECODER_ONNX, REPORT) if (path := folder / name).exists()]
    if existing and not force:
        raise ExistsError(existing[0])
