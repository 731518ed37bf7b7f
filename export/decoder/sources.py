"""Sources of decoders to export: a bundle, trained weights of the zoo with a generator, or a configuration with random
weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from codec_contract.bundle.find import ALIASES, find_bundle, installed_bundles
from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, MANIFEST, Manifest, load_manifest
from codec_contract.errors import BundleError, ExportError
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.pixels import Rgb
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.lowering import box_network
from export import papers
from export.bundle.additions import decoder_hash
from export.decoder.decoder_graph import load_parameters, round_weights
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import KIND, Grain, GrainConfig, PriorConfig
from server_decoder.grain.presets import PRESETS
from server_decoder.grain.rrdb import INITIAL_RESIDUAL, initialize
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.grain.weights import load_trained, read_config, read_kept
from server_decoder.prior_store import DEFAULT_PRIOR, load_prior

TRAINED = "grain.safetensors"
"""GRAIN's weights in a folder of the zoo, written by `server_decoder.grain.weights`."""
_NOISE = 0.01  # added to random weights, so that no bias is zero and no two tensors are equal


@dataclass(frozen=True)
class DecoderSource:
    """A decoder to export.

    Attributes:
        name: of the bundle, the zoo's folder or the configuration.
        decoder: in evaluation mode.
        network: the encoder that makes its LRs.
        manifest: of the bundle; None for other sources.
        step: of the LR's levels in payloads (`codec_contract.lr_coder.coder_tables`).
    """

    name: str
    decoder: RRDBDecoder | Grain
    network: IntegerNetwork
    manifest: Manifest | None = None
    step: int = 1

    def encode(self, squares: Rgb) -> Rgb:
        """LRs of squares, uint8 ``[N, hr, hr, 3]``, as payloads store them: uint8 ``[N, lr, lr, 3]``."""
        return rounded(integer.run_reference(self.network, squares), self.step)


def bundle_decoder(manifest: Manifest) -> RRDBDecoder | Grain:
    """The torch decoder of a GRAIN bundle, its weights read back from the bundle's own ONNX file.

    In a `Grain`, those weights of the generator that its output does not depend on are NaN (see `load_parameters`).

    Raises:
        BundleError: the manifest describes another kind of decoder, or the weights do not fit.
    """
    decoder: RRDBDecoder | Grain
    try:
        architecture = manifest.decoder["architecture"]
        name = manifest.decoder["file"]
        if manifest.codec != KIND:
            raise ValueError(f"it is a {manifest.codec}; the decoder.onnx in its folder is ready to serve")
        # The first bundles name no kind.
        if architecture.get("kind") == KIND or "prior" in architecture:
            decoder = Grain(GrainConfig.from_dict(architecture))
        else:
            decoder = RRDBDecoder(DecoderConfig.from_dict(architecture))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"bundle {manifest.id} describes no decoder of a known kind ({error})") from error
    load_parameters(decoder, onnx.load_model_from_string(manifest.open_file(name)))
    return decoder.eval()


def invertible_decoder(manifest: Manifest) -> RRDBDecoder:
    """The invertible decoder of a GRAIN bundle, with or without a generator; errors as `bundle_decoder`."""
    decoder = bundle_decoder(manifest)
    return decoder.decoder if isinstance(decoder, Grain) else decoder


def find_decoder(name_or_path: str | Path, prior: str | Path = DEFAULT_PRIOR, *, zoo: Path | None = None
                 ) -> DecoderSource:
    """The decoder of a bundle, or of a folder of the zoo with its generator.

    Args:
        name_or_path: as `find_bundle` takes it; a folder that holds ``grain.safetensors``; or the name of one of the
            zoo that no installed bundle has.
        prior: the generator, as `load_prior` takes it; bundles hold theirs.
        zoo: folder of the zoo; by default the checkout's.

    Raises:
        BundleError: there is no such bundle or folder, or it is damaged.
        ModelError: the generator is missing or another.
    """
    folder = _zoo_folder(name_or_path, zoo or Path(__file__).resolve().parents[2] / "zoo")
    if folder is not None:
        if (folder / TRAINED).is_file():
            return zoo_decoder(folder, prior)
        kind = next(family.name for file, family in papers.WEIGHTS.items() if (folder / file).is_file())
        raise BundleError(f"{name_or_path} holds weights of {kind}, not of GRAIN; edgegrain export bundle writes its "
                          "bundle, decoder included")
    manifest = load_manifest(find_bundle(name_or_path))
    # A float encoder is in another file; the exact box mean makes LRs to compare on.
    network = (integer.load_integer_network(manifest.open_file(ENCODER_WEIGHTS)) if ENCODER_WEIGHTS in manifest.files
               else box_network(manifest.hr, manifest.lr))
    step = CoderTables.from_json(manifest.open_file(CODER_TABLES)).step
    return DecoderSource(manifest.id, bundle_decoder(manifest), network, manifest, step)


def zoo_decoder(folder: Path, prior: str | Path = DEFAULT_PRIOR) -> DecoderSource:
    """Trained weights together with the generator they were trained with.

    The LRs to compare on come from `zoo_encoder`, else from the plain area average.

    Raises:
        ModelError: the weights are damaged, or the generator is missing or another.
        BundleError: the weights need the decoder of a bundle that is not installed, or that has another decoder now.
    """
    config = read_config(folder / TRAINED)
    model = load_zoo(folder, described_prior(config.prior, prior) if config.prior else None)
    encoder = zoo_encoder(folder) or box_network(config.decoder.hr, config.decoder.lr)
    return DecoderSource(folder.resolve().name, model if model.prior is not None else model.decoder, encoder,
                         step=zoo_step(folder))


def load_zoo(folder: Path, prior: GenerativePrior | None) -> Grain:
    """Trained weights around a generator, the invertible decoder from its bundle if the weights leave it out.

    Raises:
        ModelError, BundleError: as `zoo_decoder`.
    """
    bundle = kept_bundle(folder)
    if bundle is None:
        return load_trained(folder / TRAINED, prior)
    return load_trained(folder / TRAINED, prior, invertible_decoder(bundle))


def zoo_encoder(folder: Path) -> IntegerNetwork | None:
    """The encoder of a folder of the zoo or of the bundle whose decoder it needs; None if there is none."""
    if (folder / ENCODER_WEIGHTS).is_file():
        return integer.load_integer_network(folder / ENCODER_WEIGHTS)
    bundle = kept_bundle(folder)
    return None if bundle is None else integer.load_integer_network(bundle.open_file(ENCODER_WEIGHTS))


def zoo_step(folder: Path) -> int:
    """The step of the LR's levels in a folder of the zoo, or in the bundle whose decoder it needs; errors as
    `zoo_encoder`."""
    if (folder / CODER_TABLES).is_file():
        return CoderTables.from_json((folder / CODER_TABLES).read_bytes()).step
    bundle = kept_bundle(folder)
    return 1 if bundle is None else CoderTables.from_json(bundle.open_file(CODER_TABLES)).step


def kept_bundle(folder: Path) -> Manifest | None:
    """The bundle whose encoder and invertible decoder trained weights need; None if they have their own."""
    kept = read_kept(folder / TRAINED)
    if kept is None:
        return None
    manifest = load_manifest(find_bundle(kept.bundle))
    if decoder_hash(manifest) != kept.sha256:
        raise BundleError(f"{folder} was trained around the decoder of bundle {kept.bundle} {kept.version}; the "
                          f"installed version {manifest.version} has another one")
    return manifest


def described_prior(config: PriorConfig, name_or_path: str | Path = DEFAULT_PRIOR) -> GenerativePrior:
    """The generator that a configuration describes: cut to its size, and rounded if it is the compact one.

    Args:
        config: its kind, size and form.
        name_or_path: as `load_prior` takes it.

    Raises:
        ModelError: there is no such generator, or it is of another kind or size.
    """
    prior = load_prior(name_or_path, config.network, size=config.size)
    if config.compact:
        round_weights(prior, compact=True)
    return prior


def random_decoder(name: str, seed: int = 0) -> DecoderSource:
    """A configuration with random weights, none of them zero: for trying an export and measuring its cost.

    Raises:
        ExportError: there is no such configuration.
    """
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


def _zoo_folder(name_or_path: str | Path, zoo: Path) -> Path | None:
    """The folder of trained weights of this path or name; None if a bundle has it, or nothing does."""
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    candidates = [Path(name_or_path)]
    if Path(name).name == name and name not in installed_bundles():
        candidates.append(zoo / name)
    return next((folder for folder in candidates if not (folder / MANIFEST).is_file()
                 and any((folder / file).is_file() for file in (TRAINED, *papers.WEIGHTS))), None)
