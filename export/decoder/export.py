"""The export of ``edgegrain export decoder``: a decoder as ONNX for the server, compared with torch on real LRs.

A decoder comes from a bundle; from trained weights in ``zoo/``, which are joined with the generator that ``edgegrain
prior fetch`` downloads; or from a configuration with random weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx.utils
import torch
from torch import nn

from codec_contract.bundle.find import ALIASES, find_bundle, installed_bundles
from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, MANIFEST, Manifest, load_manifest
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
from export.decoder.fused_decoder import fused_graph
from export.decoder.graph import (
    add_optional_input,
    decoder_graph,
    from_levels,
    load_parameters,
    round_weights,
    store_compact,
    store_half,
    to_levels,
)
from export.decoder.int8 import Int8Decoder, int8_decoder
from export.decoder.served import served_decoder
from export.proof.inputs import find_pictures, make_inputs
from server_decoder.decoder_session import STEP, DecoderSession
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import (
    KIND,
    PRESETS,
    Grain,
    GrainConfig,
    PriorConfig,
    load_trained,
    read_config,
    read_kept,
)
from server_decoder.grain.rrdb_decoder import INITIAL_RESIDUAL, DecoderConfig, RRDBDecoder, initialize
from server_decoder.prior_store import DEFAULT_PRIOR, load_prior
from server_decoder.weight_file import described_network

TRAINED = "grain.safetensors"
"""GRAIN's weights in a folder of the zoo, written by `server_decoder.grain.grain.save_trained`."""
TOLERANCE = 1e-4
"""Largest difference of a float32 graph from torch, which sums in another order."""
LEAST_PSNR = {Precision.float32: 50.0, Precision.float16: 50.0, Precision.int8: 30.0}
"""Least PSNR of a decoder against torch in float32, in dB."""
CALIBRATED, TUNED = 32, 1024
"""LRs that an int8 decoder is calibrated on, and those that it is tuned on."""
_NOISE = 0.01  # added to random weights, so that no bias is zero and no two tensors are equal


@dataclass(frozen=True)
class DecoderSource:
    """A decoder to export, in evaluation mode, the encoder that makes its LRs, the manifest if it is a bundle's, and
    the step of the LR's levels in payloads (`codec_contract.lr_coder.coder_tables`)."""

    name: str
    decoder: RRDBDecoder | Grain
    network: IntegerNetwork
    manifest: Manifest | None = None
    step: int = 1

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
    # A float encoder is in another file; the exact box mean makes LRs to compare on.
    network = (
        integer.load_integer_network(manifest.open_file(ENCODER_WEIGHTS))
        if ENCODER_WEIGHTS in manifest.files
        else box_network(manifest.hr, manifest.lr)
    )
    step = CoderTables.from_json(manifest.open_file(CODER_TABLES)).step
    return DecoderSource(manifest.id, bundle_decoder(manifest), network, manifest, step)


def bundle_decoder(manifest: Manifest) -> RRDBDecoder | Grain:
    """The torch decoder of a GRAIN bundle, its weights read back from the bundle's own ONNX file.

    In a `Grain`, those weights of the generator that its output does not depend on are NaN (see `load_parameters`).
    """
    decoder: RRDBDecoder | Grain
    try:
        architecture = manifest.decoder["architecture"]
        name = manifest.decoder["file"]
        if manifest.codec != KIND:
            raise ValueError(f"it is a {manifest.codec}; the decoder.onnx in its folder is ready to serve")
        # The first bundles name no kind.
        if architecture.get("kind") == KIND or "prior" in architecture:
            grain = GrainConfig.from_dict(architecture)
            decoder = described_network(manifest.path(name), lambda: Grain(grain))
        else:
            rrdb = DecoderConfig.from_dict(architecture)
            decoder = described_network(manifest.path(name), lambda: RRDBDecoder(rrdb))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"bundle {manifest.id} describes no decoder of a known kind ({error})") from error
    load_parameters(decoder, onnx.load_model_from_string(manifest.open_file(name)))
    return decoder.eval()


def invertible_decoder(manifest: Manifest) -> RRDBDecoder:
    """The invertible decoder of a GRAIN bundle, with or without a generator."""
    decoder = bundle_decoder(manifest)
    return decoder.decoder if isinstance(decoder, Grain) else decoder


def zoo_decoder(folder: Path, prior: str | Path = DEFAULT_PRIOR) -> DecoderSource:
    """Trained weights together with the generator they were trained with.

    The LRs to compare on come from `zoo_encoder`, else from the plain area average.
    """
    config = read_config(folder / TRAINED)
    model = load_zoo(folder, described_prior(config.prior, prior) if config.prior else None)
    encoder = zoo_encoder(folder) or box_network(config.decoder.hr, config.decoder.lr)
    return DecoderSource(
        folder.resolve().name, model if model.prior is not None else model.decoder, encoder, step=zoo_step(folder)
    )


def load_zoo(folder: Path, prior: GenerativePrior | None) -> Grain:
    """Trained weights around a generator, the invertible decoder from its bundle if the weights leave it out."""
    bundle = kept_bundle(folder)
    return load_trained(folder / TRAINED, prior, None if bundle is None else invertible_decoder(bundle))


def zoo_encoder(folder: Path) -> IntegerNetwork | None:
    """The encoder of a folder of the zoo or of the bundle whose decoder it needs; None if there is none."""
    data = _zoo_file(folder, ENCODER_WEIGHTS)
    return None if data is None else integer.load_integer_network(data)


def zoo_step(folder: Path) -> int:
    """The step of the LR's levels in a folder of the zoo, or in the bundle whose decoder it needs."""
    data = _zoo_file(folder, CODER_TABLES)
    return 1 if data is None else CoderTables.from_json(data).step


def _zoo_file(folder: Path, name: str) -> bytes | None:
    if (folder / name).is_file():
        return (folder / name).read_bytes()
    bundle = kept_bundle(folder)
    return None if bundle is None else bundle.open_file(name)


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
        round_weights(prior, compact=True)
    return prior


def random_decoder(name: str, seed: int = 0) -> DecoderSource:
    """A configuration with random weights, none of them zero: for trying an export and measuring its cost."""
    if name not in PRESETS:
        raise ExportError(f"unknown configuration {name!r}; expected one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    return DecoderSource(name, random_grain(config, seed), box_network(config.decoder.hr, config.decoder.lr))


def random_grain(config: GrainConfig, seed: int = 0) -> Grain:
    """A model with random weights, none of them zero, in evaluation mode."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Grain(config)
        if model.fusion is not None:  # zero in a new model
            initialize(model.fusion.to_rgb)
            model.fusion.to_rgb.weight.mul_(INITIAL_RESIDUAL)
        for parameter in model.parameters():
            parameter.add_(_NOISE * torch.randn_like(parameter))
    return model.eval()


def export_decoder(decoder: nn.Module, lr: int, options: DecoderOptions) -> bytes:
    """The serialized ONNX graph of a decoder of GRAIN for LRs of side ``lr``; of any other decoder with ONNX's own
    operators and float32.

    With rounded storage of a float32 decoder, its own weights are rounded too, so that a comparison with it compares
    graphs, not precisions.
    """
    half, compact = options.precision is Precision.float16, options.stored is WeightStorage.compact
    rounded, levels = options.stored is not WeightStorage.float32, options.pixel_type is Pixels.uint8
    if rounded and not half:
        round_weights(decoder, compact=compact)
    if isinstance(decoder, Grain | RRDBDecoder):
        if options.ops is Ops.fused:
            return bytes(fused_graph(decoder, half=half).SerializeToString())
        decoder = served_decoder(decoder)
        if levels:
            decoder.register_forward_pre_hook(lambda _, inputs: from_levels(inputs[0]))
            decoder.register_forward_hook(lambda _, __, picture: to_levels(picture))
    graph = decoder_graph(decoder, lr, levels=levels)
    if any(name.rpartition(".")[2] == STEP for name, _ in decoder.named_buffers()):
        add_optional_input(graph, STEP, ["step_batch"])
    if rounded:
        graph = store_compact(graph) if compact else store_half(graph)
    return bytes(graph.SerializeToString())


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


def compare_decoder(
    model: bytes, decoder: nn.Module, lrs: np.ndarray, precision: Precision = Precision.float32
) -> Comparison:
    """Compare an exported graph of this precision with torch in float32 on ``lrs``, uint8 ``[N, h, w, 3]``; the graph
    decodes several at once. Every other one has a coarser step, if the decoder is told it."""
    session = DecoderSession(model)  # also refuses what is no decoder
    own = next((buffer for name, buffer in decoder.named_buffers() if name.rpartition(".")[2] == STEP), None)
    steps = None if own is None else [int(own) * (1 + 7 * (index % 2)) for index in range(len(lrs))]
    with torch.no_grad():
        expected = torch.cat(
            [
                decoder(one[None], *(() if steps is None else (torch.tensor(steps[index : index + 1]),)))
                for index, one in enumerate(torch.from_numpy(network_input(lrs)))
            ]
        ).numpy()
    batch = max(1, 8 * 256**2 // expected.shape[-1] ** 2)  # fewer large pictures at once
    found = np.concatenate(
        [
            session.run(lrs[first : first + batch], step=steps and steps[first : first + batch])
            for first in range(0, len(lrs), batch)
        ]
    )
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
    if not psnr >= LEAST_PSNR[precision]:
        raise ExportError(
            f"the exported decoder reaches {psnr:.1f} dB against torch, less than {LEAST_PSNR[precision]:g}"
        )
    levels = int(apart.max())
    if precision is Precision.float32 and levels > 1:
        raise ExportError(f"a restored picture differs from torch's by {levels} levels, more than 1")
    return Comparison(len(lrs), difference, round(psnr, 1), float((apart > 0).mean()))


def real_lrs(network: IntegerNetwork, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs of pictures, then of generated patterns."""
    inputs = make_inputs(network.hr, max(count, 8), network=network, pictures=pictures)
    return integer.run_reference(network, np.stack([item.picture for item in itertools.islice(inputs, count)]))


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
        comparison = self.comparison
        step = " (by one level)" if self.options.precision is Precision.float32 else ""
        return (
            f"largest difference from torch on {comparison.lrs} LRs "
            f"{comparison.largest_difference:.1e}, PSNR {comparison.psnr:.1f} dB, "
            f"{comparison.differing_bytes:.2%} of bytes differ{step}"
        )


Tune = Callable[[Int8Decoder, Rgb], Int8Decoder]
"""Training of an int8 form on LRs, uint8 ``[N, lr, lr, 3]``."""


def export_compared(
    source: DecoderSource,
    options: DecoderOptions,
    pictures: Path | None = None,
    count: int = 8,
    tune: Tune | None = None,
) -> ExportedDecoder:
    """Export a decoder and compare it with torch on ``count`` LRs of a folder of pictures, or of those that ship.

    One in int8 is calibrated on LRs of these pictures, and tuned if ``tune`` is given.
    """
    found, float32 = find_pictures(pictures), b""
    if options.precision is Precision.int8:  # compared on pictures of the calibration: its ranges hold for such only
        lrs = varied_lrs(source, found, CALIBRATED)
        made = int8_decoder(export_decoder(source.decoder, source.network.lr, DecoderOptions()), lrs)
        if tune is not None:
            made = tune(made, varied_lrs(source, found, TUNED))
        model, float32, lrs = made.int8, made.float32, lrs[:8]
    else:
        model, lrs = export_decoder(source.decoder, source.network.lr, options), real_lrs(source.network, found, count)
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
