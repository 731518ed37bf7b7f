"""The export of ``edgegrain export decoder``: a decoder as ONNX for the server, compared with torch on real LRs.

A decoder comes from a bundle, or from trained weights in ``zoo/``, which are joined with the generator that ``edgegrain
prior fetch`` downloads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.utils
import torch
from torch import Tensor, nn

from codec_contract.bundle.find import ALIASES, find_bundle, installed_bundles
from codec_contract.bundle.manifest import (
    CODER_TABLES,
    ENCODER_WEIGHTS,
    MANIFEST,
    Manifest,
    default_form,
    load_manifest,
)
from codec_contract.errors import BundleError, ExportError
from codec_contract.fit import fit_picture
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.pixels import HALF_RANGE, Rgb, network_input, pictures_of
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.preprocessing import load_picture
from edge_encoder.twin import box_network
from export import papers
from export.bundle.writer import decoder_hash
from export.decoder import DecoderOptions, Ops, Pixels, Precision, WeightStorage
from export.decoder import graph as graphs
from export.decoder.fused_decoder import fused_graph
from export.decoder.int8 import Int8Decoder, for_onnx_runtime, int8_decoder
from export.decoder.served import served_decoder
from export.proof.inputs import find_pictures, make_inputs
from server_decoder.decoder_session import STEP, DecoderSession
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import KIND, Grain, GrainConfig, PriorConfig, load_trained, read_config, read_kept
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.prior_store import DEFAULT_PRIOR, load_prior
from server_decoder.weight_file import described_network

TRAINED = "grain.safetensors"
"""GRAIN's weights in a folder of the zoo, written by `server_decoder.grain.grain.save_trained`."""
TOLERANCE = 1e-4
"""Largest difference of a float32 graph from torch, which sums in another order."""
LEAST_PSNR = {Precision.float32: 50.0, Precision.float16: 50.0, Precision.int8: 30.0}
"""Least PSNR of a decoder against torch in float32, in dB."""


@dataclass(frozen=True)
class DecoderSource:
    """A decoder to export."""

    name: str
    decoder: RRDBDecoder | Grain  # in evaluation mode
    network: IntegerNetwork  # the encoder that makes its LRs
    manifest: Manifest | None = None  # if it is a bundle's
    step: int = 1  # of the LR's levels in payloads (`codec_contract.lr_coder.coder_tables`)

    def encode(self, squares: Rgb) -> Rgb:
        """LRs of squares, uint8 ``[N, hr, hr, 3]``, as payloads store them: uint8 ``[N, lr, lr, 3]``."""
        return rounded(integer.run_reference(self.network, squares), self.step)


def find_decoder(
    name_or_path: str | Path, prior: str | Path = DEFAULT_PRIOR, *, zoo: Path | None = None
) -> DecoderSource:
    """The decoder of a bundle, as `find_bundle` takes it, or of a folder of the zoo with its generator.

    The latter is given as a folder that holds ``grain.safetensors``, or as the name of one in ``zoo`` (by default the
    checkout's) that no installed bundle has.
    """
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    folders = [Path(name_or_path)]
    if Path(name).name == name and name not in installed_bundles():
        folders.append((zoo or Path(__file__).resolve().parents[2] / "zoo") / name)
    for folder in folders:
        if (folder / MANIFEST).is_file():
            continue
        if (folder / TRAINED).is_file():
            return zoo_decoder(folder, prior)
        if kind := next((family.name for file, family in papers.WEIGHTS.items() if (folder / file).is_file()), None):
            raise BundleError(
                f"{name_or_path} holds weights of {kind}, not of GRAIN; edgegrain export bundle writes "
                "its bundle, decoder included"
            )
    manifest = load_manifest(find_bundle(name_or_path))
    if ENCODER_WEIGHTS in manifest.files:
        network = integer.load_integer_network(manifest.open_file(ENCODER_WEIGHTS))
    else:  # a float encoder is in another file; the exact box mean makes LRs to compare on
        network = box_network(manifest.hr, manifest.lr)
    step = CoderTables.from_json(manifest.open_file(CODER_TABLES)).step
    return DecoderSource(manifest.id, bundle_decoder(manifest), network, manifest, step)


def bundle_decoder(manifest: Manifest) -> RRDBDecoder | Grain:
    """The torch decoder of a GRAIN bundle, its weights read back from the bundle's own ONNX file.

    In a `Grain`, those weights of the generator that its output does not depend on are NaN (see `load_parameters`).
    """
    make: Callable[[], RRDBDecoder | Grain]
    try:
        architecture = manifest.decoder["architecture"]
        name = manifest.decoder["file"]
        if manifest.codec != KIND:
            raise ValueError(f"it is a {manifest.codec}; the decoder.onnx in its folder is ready to serve")
        if architecture.get("kind") == KIND or "prior" in architecture:  # the first bundles name no kind
            make = partial(Grain, GrainConfig.from_dict(architecture))
        else:
            make = partial(RRDBDecoder, DecoderConfig.from_dict(architecture))
        decoder: Any = described_network(manifest.path(name), make)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"bundle {manifest.id} describes no decoder of a known kind ({error})") from error
    graphs.load_parameters(decoder, onnx.load_model_from_string(manifest.open_file(name)))
    return decoder.eval()


def zoo_decoder(folder: Path, prior: str | Path = DEFAULT_PRIOR) -> DecoderSource:
    """Trained weights together with the generator they were trained with.

    The LRs to compare on come from the plain area average if there is no encoder.
    """
    config, (encoder, step) = read_config(folder / TRAINED), zoo_encoder(folder)
    model = load_zoo(folder, described_prior(config.prior, prior) if config.prior else None)
    decoder = model if model.prior is not None else model.decoder
    network = encoder or box_network(config.decoder.hr, config.decoder.lr)
    return DecoderSource(folder.resolve().name, decoder, network, step=step)


def load_zoo(folder: Path, prior: GenerativePrior | None) -> Grain:
    """Trained weights around a generator, the invertible decoder from its bundle if the weights leave it out."""
    bundle = kept_bundle(folder)
    kept = None if bundle is None else bundle_decoder(bundle)
    return load_trained(folder / TRAINED, prior, kept.decoder if isinstance(kept, Grain) else kept)


def zoo_encoder(folder: Path) -> tuple[IntegerNetwork | None, int]:
    """The encoder of a folder of the zoo or of the bundle whose decoder it needs, None if there is none, and the step
    of its LR's levels."""
    bundle = kept_bundle(folder)

    def content(name: str) -> bytes | None:
        if (folder / name).is_file():
            return (folder / name).read_bytes()
        return None if bundle is None else bundle.open_file(name)

    weights, tables = content(ENCODER_WEIGHTS), content(CODER_TABLES)
    network = None if weights is None else integer.load_integer_network(weights)
    return network, 1 if tables is None else CoderTables.from_json(tables).step


def kept_bundle(folder: Path) -> Manifest | None:
    """The bundle whose encoder and invertible decoder trained weights need; None if they have their own."""
    kept = read_kept(folder / TRAINED)
    if kept is None:
        return None
    manifest = load_manifest(find_bundle(kept.bundle))
    if decoder_hash(manifest) != kept.sha256:
        raise BundleError(
            f"{folder} was trained around the decoder of bundle {kept.bundle} {kept.version}; the "
            f"installed version {manifest.version} has another one"
        )
    return manifest


def described_prior(config: PriorConfig, name_or_path: str | Path = DEFAULT_PRIOR) -> GenerativePrior:
    """The generator that a configuration describes: cut to its size, and rounded if it is the compact one."""
    prior = load_prior(name_or_path, config.network, size=config.size)
    if config.compact:
        graphs.round_weights(prior, compact=True)
    return prior


def export_decoder(decoder: nn.Module, lr: int, options: DecoderOptions) -> bytes:
    """The serialized ONNX graph of a decoder of GRAIN for LRs of side ``lr``, any other's with ONNX's own operators.

    With rounded storage of a float32 decoder, its own weights are rounded too: a comparison compares graphs only.
    """
    half, compact = options.precision is Precision.float16, options.stored is WeightStorage.compact
    rounded, levels = options.stored is not WeightStorage.float32, options.pixel_type is Pixels.uint8
    if rounded and not half:
        graphs.round_weights(decoder, compact=compact)
    if isinstance(decoder, Grain | RRDBDecoder):
        if options.ops is Ops.fused:
            return bytes(fused_graph(decoder, half=half).SerializeToString())
        decoder = served_decoder(decoder)
        if levels:
            decoder.register_forward_pre_hook(lambda _, inputs: graphs.from_levels(inputs[0]))
            decoder.register_forward_hook(lambda _, __, picture: graphs.to_levels(picture))
    graph = graphs.decoder_graph(decoder, lr, levels=levels)
    if _own_step(decoder) is not None:
        graphs.add_optional_input(graph, STEP, ["step_batch"])
    if rounded:
        graph = graphs.store_compact(graph) if compact else graphs.store_half(graph)
    return bytes(graph.SerializeToString())


def _own_step(decoder: nn.Module) -> Tensor | None:
    """The step of the levels that a decoder is told, if it is told one."""
    return next((buffer for name, buffer in decoder.named_buffers() if name.rpartition(".")[2] == STEP), None)


@dataclass(frozen=True)
class Comparison:
    """An exported decoder compared with its torch module."""

    lrs: int  # LR pictures decoded by both
    largest_difference: float  # of output values, clipped to [-1, 1]; of levels on that scale if the graph quantizes
    psnr: float  # of the exported decoder's values against torch's, in dB with a peak of 2; 200 stands for equality
    differing_bytes: float  # share of the restored pictures' bytes (in float32 never by more than one level)


def compare_decoder(
    model: bytes, decoder: nn.Module, lrs: np.ndarray, precision: Precision = Precision.float32
) -> Comparison:
    """Compare an exported graph of this precision with torch in float32 on ``lrs``, uint8 ``[N, h, w, 3]``; the graph
    decodes several at once. Every other one has a coarser step, if the decoder is told it."""
    session = DecoderSession(model)  # also refuses what is no decoder
    own = _own_step(decoder)
    steps: Any = {} if own is None else {STEP: torch.tensor([1.0, 2.0]).repeat(len(lrs))[: len(lrs)] * own}
    with torch.no_grad():
        inputs = [values.split(1) for values in (torch.from_numpy(network_input(lrs)), *steps.values())]
        expected = torch.cat([decoder(*one) for one in zip(*inputs, strict=True)]).numpy()
    batch = max(1, 8 * 256**2 // expected.shape[-1] ** 2)  # fewer large pictures at once
    spans = [slice(first, first + batch) for first in range(0, len(lrs), batch)]
    runs = [session.run(lrs[span], **{name: given[span].tolist() for name, given in steps.items()}) for span in spans]
    found = np.concatenate(runs)
    pictures = found if session.quantizes else pictures_of(found)
    apart = np.abs(pictures.astype(np.int16) - pictures_of(expected))
    if session.quantizes:
        error = seen = apart / np.float32(HALF_RANGE)
    else:
        error = found - expected
        # Beyond [-1, 1] a picture is black or white. There a value of 20 differs between float32 and float64 by 1e-4.
        seen = found.clip(-1, 1) - expected.clip(-1, 1)
    difference = float(np.abs(seen).max())
    psnr = 10 * math.log10(4 / max(float(np.square(error, dtype=np.float64).mean()), 4e-20))
    exact = precision is Precision.float32 and not session.quantizes
    if exact and not difference <= TOLERANCE:  # also refuses NaN
        raise ExportError(f"the exported decoder differs from torch by {difference:g}, more than {TOLERANCE:g}")
    least = LEAST_PSNR[precision]
    if not psnr >= least:
        raise ExportError(f"the exported decoder reaches {psnr:.1f} dB against torch, less than {least:g}")
    levels = int(apart.max())
    if precision is Precision.float32 and levels > 1:
        raise ExportError(f"a restored picture differs from torch's by {levels} levels, more than 1")
    return Comparison(len(lrs), difference, round(psnr, 1), float((apart > 0).mean()))


def real_lrs(network: IntegerNetwork, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs of pictures, then of generated patterns."""
    inputs = make_inputs(network.hr, max(count, 8), network=network, pictures=pictures, span=slice(count))
    return integer.run_reference(network, np.stack([item.picture for item in inputs]))


@dataclass(frozen=True)
class ExportedDecoder:
    """An exported decoder that was compared with torch; ``float32`` is the decoder whose file holds the weights of one
    in int8."""

    source: DecoderSource
    options: DecoderOptions
    model: bytes
    comparison: Comparison
    float32: bytes = b""

    def summary(self) -> str:
        """One line for the terminal."""
        found = self.comparison
        step = " (by one level)" if self.options.precision is Precision.float32 else ""
        return (
            f"largest difference from torch on {found.lrs} LRs {found.largest_difference:.1e}, PSNR {found.psnr:.1f} "
            f"dB, {found.differing_bytes:.2%} of bytes differ{step}"
        )


def export_compared(
    source: DecoderSource,
    options: DecoderOptions,
    pictures: Path | None = None,
    count: int = 8,
    tune: Callable[[Int8Decoder, Rgb], Int8Decoder] | None = None,
) -> ExportedDecoder:
    """Export a decoder and compare it with torch on ``count`` LRs of a folder of pictures, or of those that ship.

    One in int8 is calibrated on LRs of these pictures; ``tune`` trains it on such LRs, uint8 ``[N, lr, lr, 3]``.
    """
    found, float32, side = find_pictures(pictures), b"", source.network.lr
    if options.precision is Precision.int8:  # compared on pictures of the calibration: its ranges hold for such only
        lrs = varied_lrs(source, found, 32)
        held = source.manifest
        exact = (
            held.open_file(default_form(held).file) if held else export_decoder(source.decoder, side, DecoderOptions())
        )
        made = int8_decoder(exact, lrs)
        if tune is not None:
            made = tune(made, varied_lrs(source, found, 1024))
        model, float32, lrs = for_onnx_runtime(made.int8), made.float32, lrs[:8]
    else:
        model, lrs = export_decoder(source.decoder, side, options), real_lrs(source.network, found, count)
    comparison = compare_decoder(model, source.decoder, lrs, options.precision)
    return ExportedDecoder(source, options, model, comparison, float32)


def varied_lrs(source: DecoderSource, pictures: Sequence[Path], count: int) -> Rgb:
    """uint8 ``[count, lr, lr, 3]``: LRs of pictures evenly chosen, mirrored and shifted where one returns; of eight,
    two are darker or brighter and tinted, and one has a background of one strong colour."""
    side, rng, lrs = source.network.hr, np.random.default_rng(0), []
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    for index in range(count):
        path = pictures[index * len(pictures) // count]
        square = fit_picture(load_picture(path), side, "crop")
        if count > len(pictures):
            square = np.roll(square[:, :: (-1) ** index], rng.integers(-24, 25, 2) * side // 256, (0, 1))
        if index % 4 == 0:
            levels = 255 * (square / 255) ** rng.uniform(0.6, 1.5) * rng.uniform(0.8, 1.2, 3) + rng.uniform(-20, 20)
            square = levels.clip(0, 255).astype(np.uint8)
        elif index % 8 == 1:
            outside = (columns / rng.uniform(0.5, 0.8)) ** 2 + ((rows - 0.1) / rng.uniform(0.8, 1.0)) ** 2 > 1
            square = np.where(outside[..., None], rng.integers(0, 2, 3) * 255, square).astype(np.uint8)
        lrs.append(source.encode(square[None]))
    return np.concatenate(lrs)
