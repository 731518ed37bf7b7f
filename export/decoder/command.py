"""The export of ``edgegrain export decoder``: a decoder as ONNX for the server, compared with torch on real LRs.

A bundle of which only the trained weights are kept (in ``zoo/``) is rebuilt with its generator, which
``edgegrain prior fetch`` downloads.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.utils
import torch
from torch import nn

from codec_contract.bundle.manifest import DECODER_ONNX, Manifest
from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import write_atomically
from codec_contract.pixels import Rgb
from export.decoder.comparison import Comparison, compare_decoder, real_lrs
from export.decoder.decoder_graph import (
    decoder_graph,
    round_weights,
    store_compact,
    store_exact_halves,
    store_half,
)
from export.decoder.decoder_options import DecoderOptions, Noise, Ops, Pixels, Precision, WeightStorage
from export.decoder.fused_decoder import fused_graph
from export.decoder.pixel_ends import add_pixel_ends, rename_values
from export.decoder.served import require_generator, served_decoder
from export.decoder.sources import DecoderSource, find_decoder, random_decoder
from export.proof.proof_inputs import find_pictures
from server_decoder.decoder_session import OUTPUT, DecoderSession
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.prior_store import DEFAULT_PRIOR
from server_decoder.super_resolution.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession

REPORT = "decoder_report.json"


def export_decoder(decoder: nn.Module, lr: int, options: DecoderOptions) -> bytes:
    """The serialized ONNX graph of a decoder.

    With rounded storage of a float32 decoder, its own weights are rounded too, so that a comparison with it compares
    graphs, not precisions.

    Args:
        decoder: of GRAIN, in float32; any other for ONNX's own operators, float32 and constant noise.
        lr: side of the LRs.
        options: of the export.

    Raises:
        ExportError: torch cannot express the decoder in ONNX, a weight is too large for float16, or noise is asked for
            without a generator.
    """
    seeded, rounded = options.noise is Noise.seeded, options.stored is not WeightStorage.float32
    if seeded:
        require_generator(decoder)
    if rounded and options.precision is Precision.float32:
        round_weights(decoder, compact=options.stored is WeightStorage.compact)
    if options.ops is Ops.fused and isinstance(decoder, Grain | RRDBDecoder):
        graph = fused_graph(decoder, half=options.precision is Precision.float16, seeded=seeded)
        return bytes((store_exact_halves(graph) if rounded else graph).SerializeToString())
    if isinstance(decoder, Grain | RRDBDecoder):
        decoder = served_decoder(decoder, half=options.precision is Precision.float16, seeded=seeded)
    if rounded and options.precision is Precision.float16:
        round_weights(decoder, compact=False)
    graph = decoder_graph(decoder, lr)
    if rounded:
        graph = store_compact(graph) if options.stored is WeightStorage.compact else store_half(graph)
    if options.pixel_type is Pixels.uint8:
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
        size: side of its pictures, in pixels, if an enlarger follows (`export.decoder.command`); 0 without.
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
    """The decoder that the command line names: of a bundle or the zoo, or a configuration with random weights."""
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
    model = export_decoder(source.decoder, source.network.lr, options)
    lrs = real_lrs(source.network, found, count)
    return ExportedDecoder(source, options, model, compare_decoder(model, source.decoder, lrs, options.precision))


def write_decoder(exported: ExportedDecoder, folder: Path, *, force: bool = False) -> Path:
    """Write ``decoder.onnx`` and ``decoder_report.json``; returns the former's path."""
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


def enlarger_factor(manifest: Manifest | None, size: int) -> int:
    """The factor by which the enlarger makes pictures with sides of ``size`` pixels, 1 for the decoder's own size.

    Args:
        manifest: of the bundle; None for decoders that are no bundle's.
        size: in pixels.
    """
    sides = () if manifest is None else manifest.sides
    if size not in sides:
        known = ", ".join(map(str, sides)) or "none, because it is no bundle or restores tiles"
        raise ExportError(f"no decoder of {size}x{size} pixels; sizes of this one: {known}")
    return size // sides[0]


def append_enlarger(exported: ExportedDecoder, size: int) -> ExportedDecoder:
    """The decoder followed by the enlarger of its bundle, for pictures with sides of ``size`` pixels.

    For servers that run ONNX files themselves (Triton, ONNX Runtime). The graph rounds the decoder's picture to levels
    before it is enlarged, as the SDK and the service do, so both give the same picture.

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
    model = join_enlarger(exported.model, doublings[: manifest.enlarger.factors.index(factor) + 1])
    lrs = real_lrs(exported.source.network, find_pictures(), 2)
    compare_joined(model, exported.model, EnlargerSession(doublings, manifest.hr), factor, lrs)
    return replace(exported, model=model, size=size)


def join_enlarger(decoder: bytes, doublings: Sequence[bytes]) -> bytes:
    """One ONNX file that decodes and enlarges: ``lr`` uint8 ``[B, h, w, 3]`` -> ``hr`` uint8 ``[B, H, W, 3]``.

    Args:
        decoder: ONNX file.
        doublings: the enlarger's ONNX files up to the one that gives the picture.
    """
    joined = onnx.load_model_from_string(decoder)
    rename_values(joined, {OUTPUT: "decoder.hr"})
    handed = {PICTURE: "decoder.hr"}  # value of the next graph -> value of the joined one
    for step, doubling in enumerate(doublings):
        part = onnx.load_model_from_string(doubling)
        wanted = [ENLARGED] if step == len(doublings) - 1 else [VALUES, FEATURES]
        part = onnx.utils.Extractor(part).extract_model(list(handed), wanted)
        joined.ir_version = part.ir_version = max(joined.ir_version, part.ir_version)
        prefix = f"enlarger.{step}."  # of the names of all values, weights and nodes
        joined = onnx.compose.merge_models(joined, part, io_map=[(old, new) for new, old in handed.items()],
                                           prefix2=prefix)
        handed = {name: prefix + name for name in wanted}
    rename_values(joined, {handed[ENLARGED]: OUTPUT})
    onnx.checker.check_model(joined)
    return bytes(joined.SerializeToString())


def compare_joined(model: bytes, decoder: bytes, enlarger: EnlargerSession, factor: int, lrs: Rgb) -> None:
    """Raise `ExportError` if a joined graph differs from its parts on ``lrs``, uint8 ``[N, h, w, 3]``."""
    wanted = enlarger.enlarge(DecoderSession(decoder).decode(lrs), factor)
    joined = DecoderSession(model)
    for lr, picture in zip(lrs, wanted, strict=True):  # one by one: a batch of 1024x1024 needs gigabytes
        steps = int(np.abs(joined.decode(lr[None])[0].astype(np.int16) - picture).max())
        if steps > 1:
            raise ExportError(f"the joined graph differs from decoder and enlarger by {steps} levels, more than 1")
