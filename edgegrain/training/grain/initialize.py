"""Start a GRAIN run from random weights, an earlier run, a published bundle or a folder of the zoo."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec_contract.bundle.file_names import MANIFEST
from codec_contract.errors import BundleError, EdgegrainError
from edgegrain.training.config import continued
from edgegrain.training.grain.autoencoder import Autoencoder, build_autoencoder
from edgegrain.training.grain.checkpoint import GrainRun, read_recipe
from edgegrain.training.grain.grow import deepened, grow
from edgegrain.training.grain.stages import GrainRecipe
from edgegrain.training.grain.starting_points import StartingPoint, invertible_decoder_of, read_start
from edgegrain.training.prior_files import random_prior
from export.decoder.sources import TRAINED
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import GrainConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder


def start_run(recipe: GrainRecipe, start: Path | None, prior: GenerativePrior | None = None, *,
              decoder_from: Path | None = None) -> GrainRun:
    """A run at its first step.

    Parts that ``start`` has take its shapes and weights (the averaged weights of a run); ``recipe`` gives everything
    else. With ``recipe.grows``, the invertible decoder keeps the shapes of ``recipe`` and begins with the picture of
    the one that ``start`` has (`edgegrain.training.grain.grow`); if the LRs of ``recipe`` are larger, it begins with
    the finer scales of that one, and the encoder from random weights. An encoder that is trained and has other shapes
    than that of ``start`` begins from random weights too, unless it only has more blocks: then it begins with the LRs
    of that one. Parts that only ``recipe`` has start from random weights. If ``recipe.fusion_base`` differs from the
    base of a trained fusion, the last convolution of the fusion starts from zero: its features stay useful, its output
    does not.

    Args:
        recipe: the stage.
        start: a run's folder or checkpoint, a bundle's folder, or one of the zoo.
        prior: the generator; its configuration must be the stage's.
        decoder_from: as ``start``; its encoder and invertible decoder replace those of ``start``, with their shapes,
            and its ``lr_step`` that of ``recipe``. Training these two alone costs a fifth per picture.

    Raises:
        BundleError: ``start`` is none of these, is of another family, or of other sizes and ``recipe`` does not grow;
            ``decoder_from`` is of other sizes, has no encoder or one where ``start`` has none, or its features have
            other numbers of channels than codes and fusion take.
        ModelError: ``prior`` is another generator than that of ``start``.
        EdgegrainError: a stage after the first, or one that keeps the encoder, has no ``start``.
    """
    if start is None:
        if not recipe.random_pictures:
            _refuse_random_parts(recipe)
        recipe = _with_base(recipe)
        model = build_autoencoder(recipe, prior)
        return GrainRun(model, copy.deepcopy(model).requires_grad_(False), recipe)
    if not any((start / name).is_file() for name in (MANIFEST, TRAINED)):
        adopt(recipe, read_recipe(start))  # refuses other shapes before the weights are read
    source, weights, history = read_start(start, prior)
    recipe = _with_base(adopt(recipe, source, history))
    other = None
    if decoder_from is not None:  # a bundle's generator is not taken, so it may be another one
        other = read_start(decoder_from, None if (decoder_from / MANIFEST).is_file() else prior)
        _refuse_other_sizes(recipe, other.recipe)
        recipe = _with_decoder_of(recipe, other.recipe)
        replaced = ("encoder.", "decoder.decoder." if isinstance(source.decoder, GrainConfig) else "decoder.")
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(replaced)}
    if isinstance(recipe.decoder, GrainConfig) and prior is None:
        raise EdgegrainError(f"stage {recipe.stage} needs the generator whole, as its file holds it; pass --prior")
    model = build_autoencoder(recipe, prior)
    if recipe.encoder != source.encoder and not deepened(model.encoder, source.encoder):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(("encoder.", "rate."))}
    if isinstance(model.decoder, RRDBDecoder) and recipe.grows:
        weights = weights | _grown(model.decoder, StartingPoint(source, weights, history))
    try:
        model.load_state_dict(_merged(model, recipe, StartingPoint(source, weights, history)))
    except RuntimeError as error:
        raise BundleError(f"the weights of {start} do not fit: {error}") from error
    if isinstance(source.decoder, GrainConfig) and source.decoder.fusion is not None \
            and source.decoder.fusion.base != recipe.fusion_base != "":
        for parameter in model.parts()["fusion"].get_submodule("to_rgb").parameters():
            torch.nn.init.zeros_(parameter)
    if other is not None:
        history = (*history, *_take_decoder(model, other, str(decoder_from), history))
    return GrainRun(model, copy.deepcopy(model).requires_grad_(False), recipe, history=history)


def adopt(recipe: GrainRecipe, source: GrainRecipe, history: Sequence[Mapping[str, Any]] = ()) -> GrainRecipe:
    """``recipe`` with the shapes of the parts that ``source`` has, and the step of its levels if it names none.

    Args:
        recipe: of a new run.
        source: of what it begins with.
        history: the stages of that one; empty if they are not known.

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
            if begins_fusion(recipe, source, history):
                decoder = replace(decoder, fusion=recipe.decoder.fusion)
        else:
            decoder = replace(recipe.decoder, decoder=inner)
    elif isinstance(decoder, GrainConfig):
        raise BundleError("this stage trains the invertible decoder alone, but what it starts from is a whole GRAIN; "
                          "begin with a run or bundle of stage 1, or choose a recipe of a later stage")
    # A frozen encoder stays: a new one would keep random weights.
    replaced = recipe.encoder.lr > source.encoder.lr or "encoder" in recipe.trains
    means = not source.correction and _sizes(recipe) == _sizes(source)  # the shape of an encoder without weights
    encoder = recipe.encoder if means or (recipe.grows and replaced) else source.encoder
    # A control of a later stage takes the decoder of a model with a correction, and drops the correction. Stage 1 may
    # begin a correction around a decoder that knows box means.
    corrects = recipe.correction and (source.correction or (recipe.stage == "1" and "encoder" in recipe.trains))
    # Box means are not the LRs that the steps of the source were chosen for.
    inherits = recipe.lr_step == 1 and (means or encoder == source.encoder) and corrects == source.correction
    return continued(recipe, encoder=encoder, decoder=decoder, correction=corrects,
                     lr_step=source.lr_step if inherits else recipe.lr_step)


def begins_fusion(recipe: GrainRecipe, source: GrainRecipe, history: Sequence[Mapping[str, Any]] = ()) -> bool:
    """True if the fusion starts from random weights: no stage up to ``source`` has trained one, or one of another
    kind. Arguments as of `adopt`."""
    stages = {source.stage, *(str(stage["stage"]) for stage in history)}
    if stages <= {"1", "2"} or not isinstance(recipe.decoder, GrainConfig) \
            or not isinstance(source.decoder, GrainConfig):
        return True
    wanted, there = recipe.decoder.fusion, source.decoder.fusion
    return wanted is not None and (there is None or there.kind != wanted.kind)


def stand_in_prior(recipe: GrainRecipe) -> GenerativePrior | None:
    """The configured generator with random weights for trial runs, the same for the same seed; None without one."""
    described = recipe.prior
    return None if described is None else random_prior(described, recipe.seed)


def _grown(decoder: RRDBDecoder, start: StartingPoint) -> dict[str, Tensor]:
    """The decoder's weights after it has grown from the invertible decoder of ``start``."""
    grow(decoder, invertible_decoder_of(start))
    return {f"decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}


def _merged(model: Autoencoder, recipe: GrainRecipe, start: StartingPoint) -> dict[str, Tensor]:
    """The state of a new model with the weights of ``start`` in the parts that it has."""
    source, weights, history = start
    own, grain = model.state_dict(), isinstance(recipe.decoder, GrainConfig)
    prefix = "decoder." if grain and isinstance(source.decoder, DecoderConfig) else ""
    new_fusion = begins_fusion(recipe, source, history)
    for name, tensor in weights.items():
        target = prefix + name if prefix and name.startswith("decoder.") else name
        fused = target.startswith("decoder.fusion.")
        if target in own and not model.is_prior(target) and not (fused and new_fusion):
            own[target] = tensor
    return own


def _take_decoder(model: Autoencoder, other: StartingPoint, name: str, history: Sequence[Mapping[str, Any]]
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


def _with_decoder_of(recipe: GrainRecipe, other: GrainRecipe) -> GrainRecipe:
    """The recipe with the shapes of encoder and invertible decoder of another, and its step, which both know."""
    if recipe.correction != other.correction:
        return recipe  # `_take_decoder` refuses it
    inner = other.decoder.decoder if isinstance(other.decoder, GrainConfig) else other.decoder
    decoder = replace(recipe.decoder, decoder=inner) if isinstance(recipe.decoder, GrainConfig) else inner
    return replace(recipe, encoder=other.encoder, decoder=decoder, lr_step=other.lr_step)


def _refuse_random_parts(recipe: GrainRecipe) -> None:
    """Raise `EdgegrainError` if parts that ``recipe`` needs trained would keep random weights."""
    if recipe.stage != "1":
        raise EdgegrainError(f"stage {recipe.stage} builds on a trained decoder; --init-from a run or a bundle")
    if recipe.correction and "encoder" not in recipe.trains:
        raise EdgegrainError("this recipe does not train the encoder, which would keep random weights; --init-from a "
                             "run or a bundle, whose encoder stays, or begin with a recipe that trains it")


def _refuse_other_sizes(recipe: GrainRecipe, source: GrainRecipe) -> None:
    wanted, there = _sizes(recipe), _sizes(source)
    if wanted != there:
        raise BundleError(f"this recipe is for {wanted}, what it starts from is for {there}; choose a recipe and a "
                          "start of the same sizes")


def _sizes(recipe: GrainRecipe) -> str:
    hr, lr = recipe.encoder.hr, recipe.encoder.lr
    return f"pictures of {hr}x{hr} with LRs of {lr}x{lr}"


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
