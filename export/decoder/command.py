"""``python -m export.decoder.command``: a bundle's decoder as ONNX for the server, compared with torch on real LRs.

    python -m export.decoder.command --bundle faces --out dist/server
    python -m export.decoder.command --bundle faces --out dist/server --weights float16
    python -m export.decoder.command --bundle faces --out dist/server --precision float16 --ops fused
    python -m export.decoder.command --bundle faces --out dist/server --triton dist/models
    python -m export.decoder.command --config grain-1024-lr16-paper --random-weights --pictures-compared 1

A bundle of which only the trained weights are kept (in ``zoo/``) is rebuilt with its generator, which
``edgegrain prior fetch`` obtains.
"""

from __future__ import annotations

import datetime
import enum
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from torch import nn

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from codec_contract.errors import EdgegrainError, ExportError
from codec_contract.files import write_atomically
from codec_contract.quantization import dequantize, quantize
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.decoder.decoder_graph import INPUT, OUTPUT, decoder_graph, round_weights, store_compact, store_half
from export.decoder.sources import find_decoder, random_decoder
from export.decoder.triton import write_repository
from export.proof.proof_inputs import find_pictures, make_inputs
from server_decoder.cuda_ops.library import needs_library, register_library
from server_decoder.decoder_session import NOISE, DecoderSession
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.inference import noise_maps, noise_sides, served_decoder
from server_decoder.prior_store import DEFAULT_PRIOR

# float32 graphs differ from torch only in the order of summation.
TOLERANCE = 1e-4
HALF_PSNR = 50.0
"""What a graph that computes in float16 must reach against float32, in dB."""

# Pictures of 256 x 256 that ONNX Runtime decodes at once; a larger one takes the place of several.
BATCH = 8


class Weights(enum.StrEnum):
    """How the decoder's weights are stored; `Precision` is what they are when it computes."""

    float32 = "float32"
    float16 = "float16"
    compact = "compact"
    """Large weights as int8 with a scale per output channel, the rest as float16."""


class Precision(enum.StrEnum):
    """What the decoder convolves; its input and its picture are float32."""

    float32 = "float32"
    float16 = "float16"
    """For GPUs: half the memory and several times the speed. What could overflow stays float32."""


class Noise(enum.StrEnum):
    """Where the generator's noise comes from."""

    constant = "constant"
    """The same for every picture, inside the graph."""
    seeded = "seeded"
    """An input, which sessions draw from a seed."""


class Ops(enum.StrEnum):
    """What the generator's memory-bound steps are written in."""

    plain = "plain"
    """ONNX's own ops, which run everywhere."""
    fused = "fused"
    """Ops of ``com.edgegrain``: the decoder needs their library (``make ops``; docs/cuda_ops.md)."""


@dataclass(frozen=True)
class Comparison:
    """An exported decoder beside its torch module.

    Attributes:
        lrs: LR pictures decoded by both.
        largest_difference: of output values in [-1, 1].
        psnr: of the exported decoder's values against torch's, in dB with a peak of 2; 200 stands for equality.
        differing_bytes: share of the restored pictures' bytes that differ (in float32 never by more than one level).
    """

    lrs: int
    largest_difference: float
    psnr: float
    differing_bytes: float


def real_lrs(network: IntegerNetwork, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs that an encoder makes of pictures (first those) and patterns."""
    inputs = make_inputs(network.hr, max(count, 8), network=network, pictures=pictures)
    return run_reference(network, np.stack([item.picture for item in itertools.islice(inputs, count)]))


def compare_decoder(model: bytes, decoder: nn.Module, lrs: np.ndarray, precision: Precision = Precision.float32
                    ) -> Comparison:
    """Decode ``lrs`` (uint8 ``[N, h, w, 3]``) with the exported graph, several at once, and one by one with torch.

    Args:
        model: the graph.
        decoder: in float32, as it was before `served_decoder` changed its form.
        lrs: to compare on.
        precision: of the graph.

    Raises:
        ExportError: the outputs differ by more than `TOLERANCE`, or a picture by more than one level; in float16 the
            PSNR is below `HALF_PSNR`.
        DeviceError: the graph has fused ops, and their library is not built.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # a control's initializer that may be given is worth no warning
    if needs_library(model):
        register_library(options)
    x = np.ascontiguousarray(dequantize(lrs.astype(np.float32)).transpose(0, 3, 1, 2))  # [N, 3, h, w]
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    takes_noise = any(item.name == NOISE for item in session.get_inputs())
    seeded = decoder if isinstance(decoder, Grain) and takes_noise else None
    sides = noise_sides(seeded.prior) if seeded is not None and seeded.prior is not None else ()
    noise = np.random.default_rng(0).standard_normal((1, sum(side**2 for side in sides)), np.float32)
    maps = noise_maps(torch.from_numpy(noise), sides)
    with torch.no_grad():
        expected = torch.cat([
            decoder(one[None]) if seeded is None else seeded.forward_all(one[None], noise=maps).final
            for one in torch.from_numpy(x)]).numpy()
    batch = max(1, BATCH * 256**2 // expected.shape[-1] ** 2)
    parts = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        feeds = {INPUT: part, **({} if seeded is None else {NOISE: noise.repeat(len(part), axis=0)})}
        parts.append(session.run([OUTPUT], feeds)[0])
    del session  # a decoder for 1024 x 1024 holds gigabytes
    error = np.concatenate(parts) - expected
    difference = float(np.abs(error).max())
    psnr = 10 * math.log10(4 / max(float(np.square(error, dtype=np.float64).mean()), 4e-20))
    if precision is Precision.float32 and not difference <= TOLERANCE:  # also refuses NaN
        raise ExportError(f"the exported decoder differs from torch by {difference:g}, more than {TOLERANCE:g}")
    if not psnr >= HALF_PSNR:
        raise ExportError(f"the exported decoder reaches {psnr:.1f} dB against torch, less than {HALF_PSNR:g}")
    served = DecoderSession(model)
    wrong, levels = 0, 0
    for start in range(0, len(x), batch):
        restored = served.decode(lrs[start : start + batch]).astype(np.int16)
        steps = np.abs(restored - quantize(expected[start : start + batch]).transpose(0, 2, 3, 1))
        wrong, levels = wrong + int((steps > 0).sum()), max(levels, int(steps.max()))
    if precision is Precision.float32 and levels > 1:
        raise ExportError(f"a restored picture differs from torch's by {levels} levels, more than 1")
    return Comparison(len(lrs), difference, round(psnr, 1), wrong / expected.size)


def export_decoder(decoder: nn.Module, lr: int, weights: Weights = Weights.float32) -> bytes:
    """The serialized ONNX graph of a decoder, in the form of `served_decoder` if it has no other yet.

    With rounded storage, ``decoder``'s own weights are rounded too, so that a comparison with it is one of graphs, not
    of precisions.

    Raises:
        ExportError: torch cannot express the decoder in ONNX, or a weight is too large for float16.
    """
    if weights is not Weights.float32:
        round_weights(decoder, compact=weights is Weights.compact)
    if isinstance(decoder, Grain | RRDBDecoder) and type(decoder) in (Grain, RRDBDecoder):
        graph = decoder_graph(served_decoder(decoder), lr)
    else:
        graph = decoder_graph(decoder, lr)
    if weights is Weights.float16:
        graph = store_half(graph)
    elif weights is Weights.compact:
        graph = store_compact(graph)
    return bytes(graph.SerializeToString())


def main(
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")] = DEFAULT_BUNDLE,
    out: Annotated[Path, typer.Option(help="Folder for decoder.onnx and decoder_report.json.")] = Path("dist"),
    weights: Annotated[Weights | None, typer.Option(help="Storage of the weights [default: the precision's].")] = None,
    precision: Annotated[Precision, typer.Option(help="What the decoder computes in.")] = Precision.float32,
    noise: Annotated[Noise, typer.Option(help="Where the generator's noise comes from.")] = Noise.constant,
    ops: Annotated[Ops, typer.Option(help="How the generator's memory-bound steps are written.")] = Ops.plain,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures to compare on.")] = None,
    pictures_compared: Annotated[int, typer.Option(min=1, help="How many LRs to compare on.")] = 8,
    prior: Annotated[str, typer.Option(help="Generator of a bundle from the zoo: fetched prior or file.")
                     ] = DEFAULT_PRIOR,
    config: Annotated[str, typer.Option(help="Instead of a bundle: a GRAIN configuration by name.")] = "",
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Random weights for --config.")] = False,
    triton: Annotated[Path | None, typer.Option(help="Also put the decoder into this Triton model repository.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write a bundle's decoder as ONNX and compare it with torch on real LRs."""
    try:
        if bool(config) != random_weights:
            raise ExportError("--config and --random-weights belong together: a configuration has no trained weights")
        source = random_decoder(config) if config else find_decoder(bundle, prior)
        found = find_pictures(pictures)
        weights = weights or Weights(precision.value)
        decoder = served_decoder(source.decoder, getattr(torch, precision.value), fused=ops is Ops.fused,
                                 seeded=noise is Noise.seeded)
        model = export_decoder(decoder, source.network.lr, weights)
        lrs = real_lrs(source.network, found, pictures_compared)
        comparison = compare_decoder(model, source.decoder, lrs, precision)
        report: dict[str, Any] = {
            "bundle": source.name, "weights": weights.value, "precision": precision.value, "ops": ops.value,
            "noise": noise.value, "bytes": len(model),
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, **asdict(comparison),
        }
        write_atomically(out / "decoder.onnx", model, force=force)
        write_atomically(out / "decoder_report.json", (json.dumps(report, indent=2) + "\n").encode(), force=force)
        if triton:
            write_repository(triton, source.name, model, source.manifest, force=force)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{out / 'decoder.onnx'}: {len(model):,} bytes; largest difference from torch on {comparison.lrs} LRs "
               f"{comparison.largest_difference:.1e}, PSNR {comparison.psnr:.1f} dB, "
               f"{comparison.differing_bytes:.2%} of bytes differ"
               + (" (by one level)" if precision is Precision.float32 else ""))


if __name__ == "__main__":
    typer.run(main)
