"""The export of ``edgegrain export decoder``: a decoder as ONNX for the server, compared with torch on real LRs.

A bundle of which only the trained weights are kept (in ``zoo/``) is rebuilt with its generator, which
``edgegrain prior fetch`` downloads.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codec_contract.bundle.file_names import DECODER_ONNX
from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import write_atomically
from export.decoder.channels_last import channels_last_graph
from export.decoder.comparison import Comparison, compare_decoder, real_lrs
from export.decoder.decoder_graph import (
    decoder_graph,
    round_weights,
    store_compact,
    store_exact_halves,
    store_half,
)
from export.decoder.decoder_options import DecoderOptions, Noise, Ops, Pixels, Precision, WeightStorage
from export.decoder.pixel_ends import add_pixel_ends
from export.decoder.sources import DecoderSource, find_decoder, random_decoder
from export.proof.proof_inputs import find_pictures
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.inference import served_decoder
from server_decoder.prior_store import DEFAULT_PRIOR

REPORT = "decoder_report.json"


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
            exclude each other: fused operators with float32 pixels or compact weights, or compact weights of a decoder
            that computes in float16.
    """
    if ops is Ops.fused and pixels is not Pixels.uint8:
        raise ExportError("a decoder with fused operators takes and gives uint8; export it without --pixels float32")
    if ops is Ops.fused and storage is WeightStorage.compact:
        raise ExportError("the filters of fused operators are ordered for the device, not stored as int8; export it "
                          "with --storage float16")
    if storage is WeightStorage.compact and any(weight.dtype == torch.float16 for weight in decoder.parameters()):
        raise ExportError("a decoder that computes in float16 holds its weights as float16, not as int8; export it "
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
