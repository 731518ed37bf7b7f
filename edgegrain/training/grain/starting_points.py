"""The trained networks that a run of GRAIN can begin with: an earlier run, a published bundle, a folder of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from codec_contract.bundle.file_names import CODER_TABLES, ENCODER_WEIGHTS, MANIFEST, RRDB_ENCODER_WEIGHTS
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network
from edge_encoder.architectures import EncoderConfig, config_from_name
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.lowering import box_network, raise_twin
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.grain.checkpoint import load_run, read_recipe
from edgegrain.training.grain.stages import GrainRecipe, RRDBEncoderConfig
from export import papers
from export.decoder.decoder_graph import same_when_stored
from export.decoder.sources import TRAINED, bundle_decoder, invertible_decoder, load_zoo, zoo_encoder, zoo_step
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.grain.weights import read_history


class StartingPoint(NamedTuple):
    """Trained networks.

    Attributes:
        recipe: has their shapes, their stage and the step of their LR's levels; everything else is a default.
        weights: by their names in `edgegrain.training.grain.autoencoder.Autoencoder`.
        stages: that they were trained in, as `GrainRun.stages`.
    """

    recipe: GrainRecipe
    weights: dict[str, Tensor]
    stages: tuple[Mapping[str, Any], ...]


def resolve_start(name: str | Path) -> Path:
    """The path of a run's folder or checkpoint, a folder of the zoo, or a bundle given by name or path.

    Raises:
        BundleError: there is none.
    """
    if checkpoint_path(Path(name)).is_file() or (Path(name) / TRAINED).is_file():
        return Path(name)
    try:
        return find_bundle(str(name))
    except BundleError as error:
        raise BundleError(f"{name} is no run, and no bundle either: {error}") from error


def read_start(start: Path, prior: GenerativePrior | None) -> StartingPoint:
    """The networks of a bundle's folder, a folder of the zoo, or a run's folder or checkpoint.

    Args:
        start: as `resolve_start` returns it.
        prior: the generator that the run is to have; that of ``start``, if it has one.

    Raises:
        BundleError, ModelError: ``start`` is none of these, a part of it is damaged, or ``prior`` is another generator.
    """
    if (start / MANIFEST).is_file():
        return from_bundle(start, prior)
    if (start / TRAINED).is_file():
        return from_zoo(start, prior)
    run = load_run(start, prior if isinstance(read_recipe(start).decoder, GrainConfig) else None)
    return StartingPoint(run.recipe, run.average.state_dict(), run.stages)


def from_bundle(folder: Path, prior: GenerativePrior | None) -> StartingPoint:
    """The networks of a bundle; the twin encoder, or the box mean, computes the bundle's LRs to the byte.

    Raises:
        BundleError: the bundle is damaged, or its networks are of another family.
        ModelError: ``prior`` is another generator than the bundle's, as far as rounded weights tell.
    """
    manifest = load_manifest(folder)
    decoder = bundle_decoder(manifest)
    if prior is not None and isinstance(decoder, Grain) and not _has_generator(decoder, prior):
        raise ModelError(f"{folder} was trained with another generator than the one given; pass --prior with that one")
    stage = "final" if isinstance(decoder, Grain) else "1"
    if RRDB_ENCODER_WEIGHTS in manifest.files:
        recipe, weights = _joined_rrdb(manifest, decoder, stage)
    else:
        network = integer_network.load_integer_network(manifest.open_file(ENCODER_WEIGHTS))
        recipe, weights = _joined(manifest.id, network, decoder, stage)
    recipe = replace(recipe, lr_step=CoderTables.from_json(manifest.open_file(CODER_TABLES)).step)
    training = manifest.training
    history = training.get("stages") or [{"stage": str(training.get("stage", stage)),
                                          "pictures": training.get("pictures_seen", 0)}]
    return StartingPoint(recipe, weights, tuple(history))


def from_zoo(folder: Path, prior: GenerativePrior | None) -> StartingPoint:
    """The networks of a folder of the zoo.

    Raises:
        BundleError: its encoder is damaged, or its networks are of another family.
        ModelError: its weights are damaged, or ``prior`` is another generator than theirs.
    """
    decoder, history, encoder = load_zoo(folder, prior), read_history(folder / TRAINED), zoo_encoder(folder)
    stage = str(history[-1]["stage"]) if history else "final"
    recipe, weights = _joined(folder.name, encoder,
                              decoder if decoder.prior is not None else decoder.decoder, stage)
    return StartingPoint(replace(recipe, lr_step=zoo_step(folder)), weights, history)


def trained_decoder(start: str | Path) -> RRDBDecoder:
    """The invertible decoder of a run, of a folder of the zoo, or of a bundle given by name or path.

    Raises:
        BundleError, ModelError: ``start`` is none of these, or a part of it is damaged.
    """
    path = resolve_start(start)
    if (path / MANIFEST).is_file():
        return invertible_decoder(load_manifest(path))
    if (path / TRAINED).is_file():
        return load_zoo(path, None).decoder
    return invertible_decoder_of(read_start(path, None))


def invertible_decoder_of(start: StartingPoint) -> RRDBDecoder:
    """The invertible decoder, alone or as a part of GRAIN, with its weights."""
    inner, prefix = ((start.recipe.decoder.decoder, "decoder.decoder.")
                     if isinstance(start.recipe.decoder, GrainConfig) else (start.recipe.decoder, "decoder."))
    decoder = RRDBDecoder(inner)
    decoder.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in start.weights.items()
                             if name.startswith(prefix)})
    return decoder


def _has_generator(decoder: Grain, prior: GenerativePrior) -> bool:
    """True if ``prior`` is the generator in a bundle's decoder, whose weights are rounded, or if that has none."""
    if decoder.prior is None:
        return True
    own, given = decoder.prior.state_dict(), prior.state_dict()
    return set(own) == set(given) and all(
        same_when_stored(own[name], tensor) for name, tensor in given.items() if name not in prior.measured)


def _joined(name: str, network: IntegerNetwork | None, decoder: RRDBDecoder | Grain, stage: str
            ) -> tuple[GrainRecipe, dict[str, Tensor]]:
    """Recipe and weights of a decoder with the twin of an exact encoder; without one, or with one that is the box mean
    alone, those of a run without learned correction."""
    if network is None or network.architecture == box_network(network.hr, network.lr).architecture:
        shape = decoder.config.decoder if isinstance(decoder, Grain) else decoder.config
        factor = shape.hr // shape.lr
        encoder = EncoderConfig(shape.hr, shape.lr, patch=factor, channels=(1,), blocks=(0,))  # of no weights
        return (GrainRecipe(stage=stage, encoder=encoder, decoder=decoder.config, correction=False),
                {f"decoder.{key}": tensor for key, tensor in decoder.state_dict().items()})
    try:
        encoder = config_from_name(network.architecture)
    except ValueError as error:
        raise BundleError(f"{name} cannot be trained further: {error}") from error
    weights = {f"encoder.{key}": tensor for key, tensor in raise_twin(network, encoder).state_dict().items()}
    weights |= {f"decoder.{key}": tensor for key, tensor in decoder.state_dict().items()}
    return GrainRecipe(stage=stage, encoder=encoder, decoder=decoder.config), weights


def _joined_rrdb(manifest: Manifest, decoder: RRDBDecoder | Grain, stage: str
                 ) -> tuple[GrainRecipe, dict[str, Tensor]]:
    """As `_joined`, for a bundle with the paper's float encoder."""
    manifest.verify_file(RRDB_ENCODER_WEIGHTS)
    encoder = papers.load("grain.rrdb_encoder:load_rrdb_encoder")(manifest.path(RRDB_ENCODER_WEIGHTS))
    shape = encoder.config
    config = RRDBEncoderConfig(manifest.hr, manifest.lr, shape.channels, shape.growth, shape.blocks)
    weights = {f"encoder.network.{key}": tensor for key, tensor in encoder.state_dict().items()}
    weights |= {f"decoder.{key}": tensor for key, tensor in decoder.state_dict().items()}
    return GrainRecipe(stage=stage, encoder=config, decoder=decoder.config), weights
