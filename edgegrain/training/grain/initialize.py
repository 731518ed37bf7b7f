"""Start a GRAIN run from random weights, an earlier run, a published bundle or a folder of the zoo."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec_contract.bundle.file_names import CODER_TABLES, MANIFEST, RRDB_ENCODER_WEIGHTS
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError, EdgegrainError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network
from edge_encoder.architectures import config_from_name
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.lowering import raise_twin
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.config import continued
from edgegrain.training.grain.autoencoder import Autoencoder, build_autoencoder
from edgegrain.training.grain.checkpoint import GrainRun, load_run, read_recipe
from edgegrain.training.grain.grow import grow
from edgegrain.training.grain.rrdb_encoder import RRDBEncoderConfig
from edgegrain.training.grain.stages import GrainRecipe
from edgegrain.training.prior_files import prior_config, random_prior
from export.decoder.sources import ENCODER, TRAINED, bundle_decoder, load_zoo, zoo_encoder, zoo_step
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.grain.rrdb_encoder import load_rrdb_encoder
from server_decoder.grain.weights import read_history

_Source = tuple[GrainRecipe, dict[str, Tensor], tuple[Mapping[str, Any], ...]]  # shapes, weights, stages


def start_run(recipe: GrainRecipe, start: Path | None, prior: GenerativePrior | None = None, *,
              decoder_from: Path | None = None) -> GrainRun:
    """A run at its first step.

    Parts that ``start`` has take its shapes and weights (the averaged weights of a run); ``recipe`` gives everything
    else. With ``recipe.grows``, the invertible decoder keeps the shapes of ``recipe`` and begins with the picture of
    the one that ``start`` has (`edgegrain.training.grain.grow`); if the LRs of ``recipe`` are larger, it begins with
    the finer scales of that one, and the encoder from random weights. Parts that only ``recipe`` has start from random
    weights. If ``recipe.fusion_base`` differs from the base of a trained fusion, the last convolution of the fusion
    starts from zero: its features stay useful, its output does not.

    Args:
        recipe: the stage.
        start: a run's folder or checkpoint, a bundle's folder, or one of the zoo.
        prior: the generator; its configuration must be the stage's.
        decoder_from: as ``start``; its encoder and invertible decoder replace those of ``start``, and its ``lr_step``
            that of ``recipe``. Training these two alone costs a fifth per picture.

    Raises:
        BundleError: ``start`` is none of these, is of another family, or of other sizes and ``recipe`` does not grow;
            ``decoder_from`` has other shapes.
        EdgegrainError: a stage after the first has no ``start``.
    """
    if start is None:
        if recipe.stage != "1" and not recipe.random_pictures:
            raise EdgegrainError(f"stage {recipe.stage} builds on a trained decoder; --init-from a run or a bundle")
        recipe = _with_base(recipe)
        model = build_autoencoder(recipe, prior)
        return GrainRun(model, copy.deepcopy(model).requires_grad_(False), recipe)
    if not any((start / name).is_file() for name in (MANIFEST, TRAINED)):
        adopt(recipe, read_recipe(start))  # refuses other shapes before the weights are read
    source, weights, history = _read(start, prior)
    recipe = _with_base(adopt(recipe, source))
    other = None if decoder_from is None else _read(decoder_from, prior)
    if other is not None:
        _refuse_other_sizes(recipe, other[0])
        recipe = replace(recipe, lr_step=other[0].lr_step)  # its encoder and decoder know levels in these steps
    if recipe.encoder != source.encoder:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(("encoder.", "rate."))}
    if isinstance(recipe.decoder, GrainConfig) and prior is None:
        raise EdgegrainError(f"stage {recipe.stage} needs the generator whole, as its file holds it; pass --prior")
    model = build_autoencoder(recipe, prior)
    if isinstance(model.decoder, RRDBDecoder) and recipe.grows:
        weights = weights | _grown(model.decoder, source, weights)
    own, grain = model.state_dict(), isinstance(recipe.decoder, GrainConfig)
    prefix = "decoder." if grain and isinstance(source.decoder, DecoderConfig) else ""
    for name, tensor in weights.items():
        target = prefix + name if prefix and name.startswith("decoder.") else name
        fused = target.startswith("decoder.fusion.")
        if target in own and not model.is_prior(target) and not (fused and begins_fusion(recipe, source)):
            own[target] = tensor
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise BundleError(f"the weights of {start} do not fit: {error}") from error
    if isinstance(source.decoder, GrainConfig) and source.decoder.fusion is not None \
            and source.decoder.fusion.base != recipe.fusion_base != "":
        for parameter in model.parts()["fusion"].get_submodule("to_rgb").parameters():
            torch.nn.init.zeros_(parameter)
    if other is not None:
        history = (*history, *_take_decoder(model, other, str(decoder_from), history))
    return GrainRun(model, copy.deepcopy(model).requires_grad_(False), recipe, history=history)


def _grown(decoder: RRDBDecoder, source: GrainRecipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's weights after it has grown from the invertible decoder of ``source``."""
    grow(decoder, _invertible(source, weights))
    return {f"decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}


def trained_decoder(start: str | Path) -> RRDBDecoder:
    """The invertible decoder of a run, of a folder of the zoo, or of a bundle given by name or path.

    Raises:
        BundleError, ModelError: ``start`` is none of these, or a part of it is damaged.
    """
    return _invertible(*_read(resolve_start(start), None)[:2])


def _invertible(source: GrainRecipe, weights: Mapping[str, Tensor]) -> RRDBDecoder:
    inner, prefix = ((source.decoder.decoder, "decoder.decoder.") if isinstance(source.decoder, GrainConfig)
                     else (source.decoder, "decoder."))
    decoder = RRDBDecoder(inner)
    decoder.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in weights.items()
                             if name.startswith(prefix)})
    return decoder


def _read(start: Path, prior: GenerativePrior | None) -> _Source:
    """Shapes, weights and stages of a bundle, a folder of the zoo, or a run."""
    if (start / MANIFEST).is_file():
        return from_bundle(start)
    if (start / TRAINED).is_file():
        return from_zoo(start, prior)
    run = load_run(start, prior if isinstance(read_recipe(start).decoder, GrainConfig) else None)
    return run.recipe, run.average.state_dict(), run.stages


def _take_decoder(model: Autoencoder, other: _Source, name: str, history: Sequence[Mapping[str, Any]]
                  ) -> tuple[Mapping[str, Any], ...]:
    """Replace encoder and invertible decoder by those of ``other``; returns its stages that are not in ``history``."""
    source, weights, stages = other
    prefixes = {"encoder": "encoder.",
                "decoder": "decoder.decoder." if isinstance(source.decoder, GrainConfig) else "decoder."}
    for part, prefix in prefixes.items():
        state = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        try:
            model.parts()[part].load_state_dict(state)
        except RuntimeError as error:
            raise BundleError(f"the {part} of {name} has another shape: {error}") from error
    common = next((index for index, (one, other) in enumerate(zip(history, stages, strict=False)) if one != other),
                  min(len(history), len(stages)))
    more = tuple(stages[common:])
    known = any(tuple(history[first:first + len(more)]) == more for first in range(len(history)))
    return () if known else more


def adopt(recipe: GrainRecipe, source: GrainRecipe) -> GrainRecipe:
    """``recipe`` with the shapes of the parts that ``source`` has, and the step of its levels if it names none.

    Raises:
        BundleError: ``source`` has other sizes and ``recipe`` does not grow, or it is a whole GRAIN for an invertible
            decoder alone.
    """
    if not recipe.grows:
        _refuse_other_sizes(recipe, source)
    decoder = source.decoder
    if recipe.grows:
        decoder = recipe.decoder
    elif isinstance(recipe.decoder, GrainConfig):
        inner = decoder.decoder if isinstance(decoder, GrainConfig) else decoder
        if isinstance(decoder, GrainConfig) and decoder.prior is not None:
            decoder = _with_offsets(decoder, recipe.decoder)
            if begins_fusion(recipe, source):
                decoder = replace(decoder, fusion=recipe.decoder.fusion)
        else:
            decoder = replace(recipe.decoder, decoder=inner)
    elif isinstance(decoder, GrainConfig):
        raise BundleError("this stage trains the invertible decoder alone, but what it starts from is a whole GRAIN")
    encoder = recipe.encoder if recipe.grows and recipe.encoder.lr > source.encoder.lr else source.encoder
    # A control of a later stage takes the decoder of a model with a correction, and drops the correction. Stage 1 may
    # begin a correction around a decoder that knows box means.
    corrects = recipe.correction and (source.correction or (recipe.stage == "1" and "encoder" in recipe.trains))
    # Box means are not the LRs that the steps of the source were chosen for.
    inherits = recipe.lr_step == 1 and encoder == source.encoder and corrects == source.correction
    return continued(recipe, encoder=encoder, decoder=decoder, correction=corrects,
                     lr_step=source.lr_step if inherits else recipe.lr_step)


def _refuse_other_sizes(recipe: GrainRecipe, source: GrainRecipe) -> None:
    wanted, there = _sizes(recipe), _sizes(source)
    if wanted != there:
        raise BundleError(f"this recipe is for {wanted}, what it starts from is for {there}; choose a recipe and a "
                          "start of the same sizes")


def _sizes(recipe: GrainRecipe) -> str:
    hr, lr = recipe.encoder.hr, recipe.encoder.lr
    return f"pictures of {hr}x{hr} with LRs of {lr}x{lr}"


def begins_fusion(recipe: GrainRecipe, source: GrainRecipe) -> bool:
    """True if the fusion starts from random weights: ``source`` has trained none, or one of another kind."""
    if source.stage in ("1", "2") or not isinstance(recipe.decoder, GrainConfig) \
            or not isinstance(source.decoder, GrainConfig):
        return True
    wanted, there = recipe.decoder.fusion, source.decoder.fusion
    return wanted is not None and (there is None or there.kind != wanted.kind)


def _with_offsets(decoder: GrainConfig, wanted: GrainConfig) -> GrainConfig:
    """Add the wanted code offsets to a trained decoder: they are zero in a new model, so its output stays the same."""
    if decoder.codes is None or wanted.codes is None or not set(decoder.codes.offsets) <= set(wanted.codes.offsets):
        return decoder
    return replace(decoder, codes=replace(decoder.codes, offsets=wanted.codes.offsets))


def _with_base(recipe: GrainRecipe) -> GrainRecipe:
    """The configuration with the fusion base of the stage."""
    base = recipe.fusion_base
    if not base:
        return recipe
    if not isinstance(recipe.decoder, GrainConfig) or recipe.decoder.fusion is None:
        raise EdgegrainError(f"stage {recipe.stage} of this model has no fusion whose base could be {base!r}")
    try:
        fusion = replace(recipe.decoder.fusion, base=base)
    except ValueError as error:
        raise EdgegrainError(str(error)) from error
    return replace(recipe, decoder=replace(recipe.decoder, fusion=fusion))


def from_bundle(folder: Path) -> _Source:
    """Shapes, weights and stages of a bundle; its twin encoder computes the bundle's LRs to the byte.

    Raises:
        BundleError: the bundle is damaged, or its networks are of another family.
    """
    manifest = load_manifest(folder)
    decoder = bundle_decoder(manifest)
    stage = "final" if isinstance(decoder, Grain) else "1"
    if RRDB_ENCODER_WEIGHTS in manifest.files:
        source, weights = _joined_rrdb(manifest, decoder, stage)
    else:
        network = integer_network.load_integer_network(manifest.open_file(ENCODER))
        source, weights = _joined(manifest.id, network, decoder, stage)
    source = replace(source, lr_step=CoderTables.from_json(manifest.open_file(CODER_TABLES)).step)
    training = manifest.training
    history = training.get("stages") or [{"stage": str(training.get("stage", stage)),
                                          "pictures": training.get("pictures_seen", 0)}]
    return source, weights, tuple(history)


def from_zoo(folder: Path, prior: GenerativePrior | None) -> _Source:
    """Shapes, weights and stages of a folder of the zoo.

    Raises:
        BundleError: its encoder is absent or damaged, or its networks are of another family.
        ModelError: its weights are damaged, or ``prior`` is another generator than theirs.
    """
    decoder, history, encoder = load_zoo(folder, prior), read_history(folder / TRAINED), zoo_encoder(folder)
    if encoder is None:
        raise BundleError(f"{folder} has no encoder to train with: there is no {ENCODER}")
    stage = str(history[-1]["stage"]) if history else "final"
    source, weights = _joined(folder.name, encoder,
                              decoder if decoder.prior is not None else decoder.decoder, stage)
    return replace(source, lr_step=zoo_step(folder)), weights, history


def _joined(name: str, network: IntegerNetwork, decoder: RRDBDecoder | Grain, stage: str
            ) -> tuple[GrainRecipe, dict[str, Tensor]]:
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
    encoder = load_rrdb_encoder(manifest.path(RRDB_ENCODER_WEIGHTS))
    shape = encoder.config
    config = RRDBEncoderConfig(manifest.hr, manifest.lr, shape.channels, shape.growth, shape.blocks)
    weights = {f"encoder.network.{key}": tensor for key, tensor in encoder.state_dict().items()}
    weights |= {f"decoder.{key}": tensor for key, tensor in decoder.state_dict().items()}
    return GrainRecipe(stage=stage, encoder=config, decoder=decoder.config), weights


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


def stand_in_prior(recipe: GrainRecipe) -> GenerativePrior | None:
    """The configured generator with random weights for trial runs, the same for the same seed; None without one."""
    described = prior_config(recipe)
    return None if described is None else random_prior(described, recipe.seed)
