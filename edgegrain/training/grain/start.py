"""The start of a GRAIN run: random weights, an earlier run, a published bundle or a folder of the zoo; growing trained
networks; generators and discriminators from files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, MANIFEST, RRDB_ENCODER_WEIGHTS, load_manifest
from codec_contract.errors import BundleError, EdgegrainError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, load_integer_network
from edge_encoder.twin import EncoderConfig, EncoderTwin, box_network, config_from_name, raise_twin
from edgegrain.training.adversarial import AdversarialConfig, load_discriminator
from edgegrain.training.checkpoint import checkpoint_path, frozen_copy
from edgegrain.training.grain.model import PRIOR, Autoencoder, GrainRun, load_run, read_recipe
from edgegrain.training.grain.recipes import FACES, GrainRecipe, RRDBEncoderConfig
from edgegrain.training.recipe import Recipe, continued
from export import papers
from export.decoder.export import TRAINED, bundle_decoder, described_prior, load_zoo, zoo_encoder
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain import rrdb_decoder as rrdb
from server_decoder.grain.grain import Grain, GrainConfig, PriorConfig, read_history
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.prior_store import DEFAULT_PRIOR
from server_decoder.stylegan2.networks import StyleGAN2Config


def recipe_prior(recipe: Recipe, prior: str | Path | None) -> GenerativePrior | None:
    """The generator of a recipe, cut and rounded as the recipe says, from a file, by the name of a fetched prior, or
    for None the published one, in trial runs one with random weights; None for recipes without one."""
    described = recipe.prior
    if described is None:
        if prior is not None:
            raise EdgegrainError("this recipe has no generator; leave --prior out")
        return None
    if prior is None and getattr(recipe, "random_pictures", False):
        return random_prior(described, recipe.seed)
    if prior is None and isinstance(described.network, StyleGAN2Config):
        raise EdgegrainError(
            "this recipe needs a StyleGAN2; pass --prior with its file (edgegrain convert --from stylegan2-rosinality)"
        )
    if prior is None and (domain := getattr(recipe, "domain", FACES)) != FACES:
        raise EdgegrainError(
            f"the published generator makes {FACES}; pass --prior with the file of one that makes {domain} "
            "(docs/training.md)"
        )
    return described_prior(described, prior or DEFAULT_PRIOR)


@torch.no_grad()
def random_prior(config: PriorConfig, seed: int) -> GenerativePrior:
    """A generator with random weights for trial runs, the same for the same seed, with its measured mean code."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = config.build()
        prior.mean_code.copy_(prior.map(torch.randn(1024, prior.code_width)).mean(0))
    return prior


def recipe_discriminator(
    adversarial: AdversarialConfig | None, given: Path | None, *, resumes: bool
) -> nn.Module | None:
    """The StyleGAN2 discriminator of a file, if there is one: WGAN begins with one, a run that resumes has its own."""
    if adversarial is None or not isinstance(adversarial.discriminator, StyleGAN2Config):
        return None
    if given is not None:
        return load_discriminator(given, adversarial.discriminator)
    if adversarial.loss == "wgan" and not resumes:
        raise EdgegrainError(
            "this recipe's WGAN loss needs a trained StyleGAN2 discriminator; pass --discriminator with its file "
            "(edgegrain convert --from stylegan2-rosinality)"
        )
    return None


@torch.no_grad()
def grow(decoder: RRDBDecoder, trained: RRDBDecoder) -> None:
    """Give ``decoder`` the weights of another one; what it has beyond that begins without effect on the picture.

    New blocks add zero; of a scale with more blocks the last ones are left out. New channels are computed from random
    weights, and nothing reads them yet. A sub-pixel convolution becomes a bilinear interpolation with the mean of its
    four kernels. A decoder of larger LRs takes over the scales that it has, but not the first convolution.
    """
    new, old = decoder.config, trained.config
    sizes, skipped = [scale.size for scale in new.scales], len(old.scales) - len(new.scales)
    if sizes != [scale.size for scale in old.scales[max(skipped, 0) :]] or new.head != old.head:
        raise BundleError(
            f"a decoder grows from one with the same head and the scales {sizes}, got one with the head "
            f"{list(old.head)} and the scales {[scale.size for scale in old.scales]}"
        )
    scales = old.scales[skipped:]
    for a, b in zip(new.scales, scales, strict=True):
        if a.channels < b.channels:
            raise BundleError(f"a decoder grows from a narrower one, but the one given is wider at {b.size}x{b.size}")
        if b.rrdb + b.dense and (a.channels, a.growth, a.dense) != (b.channels, b.growth, b.dense):
            raise BundleError(f"the dense blocks at {b.size}x{b.size} have another width; only their number may grow")
        if a.rrdb != b.rrdb and b.dense + b.residual:
            raise BundleError(f"other blocks follow the RRDBs at {b.size}x{b.size}, whose number must stay the same")
    own, given = decoder.state_dict(), _finer(trained.state_dict(), skipped)
    for name, module in decoder.named_modules():
        if isinstance(module, rrdb.DecoderScale):
            new_ends = [module.conv] if module.conv is not None and f"{name}.conv.weight" not in given else []
        elif any(key.startswith(f"{name}.") for key in given):
            continue
        elif isinstance(module, rrdb.RRDB):
            new_ends = [block.convs()[-1] for block in module.dense_blocks()]
        else:
            new_ends = [module.conv2] if isinstance(module, rrdb.ResidualBlock) else []
        for parameter in nn.ModuleList(new_ends).parameters():
            parameter.zero_()
    for name in own.keys() & given.keys():
        target, source = own[name], given[name]
        if name.startswith("upsamples.") and source.dim() == 4 and old.upsampling == "subpixel":
            source = source.transpose(0, 1)  # transposed convolutions are [in, out, ...]
            if new.upsampling == "subpixel":
                target = target.transpose(0, 1)
            else:  # the four kernels become the centre of one of 3x3
                source = F.pad(source.mean((2, 3), keepdim=True), (1, 1, 1, 1))
        target = target[: len(source)]
        if target.dim() == 4:  # the copied channels read none of the new ones
            target.zero_()
            target = target[:, : source.shape[1]]
        target.copy_(source)
    for index, (a, b) in enumerate(zip(new.scales, scales, strict=True)):
        if a.rrdb and b.rrdb:  # an RRDB whose dense blocks add nothing is x + 0.2 x
            own[f"scales.{index}.conv.weight"].div_((1 + rrdb.RESIDUAL_SCALE) ** (a.rrdb - b.rrdb))


@torch.no_grad()
def deepened(encoder: nn.Module, trained: object) -> bool:
    """Let the blocks that a new exact encoder has beyond one of this configuration add zero, so that it begins with the
    LRs of the other's weights; False for an encoder that differs in more."""
    if not isinstance(encoder, EncoderTwin) or not isinstance(trained, EncoderConfig):
        return False
    counts = encoder.config.blocks
    if len(counts) != len(trained.blocks) or any(a < b for a, b in zip(counts, trained.blocks, strict=True)):
        return False
    if encoder.config != replace(trained, blocks=counts):
        return False
    for stage, count in enumerate(trained.blocks):
        for index in range(count, counts[stage]):
            for parameter in encoder.get_submodule(f"stages.{stage}.{index}.project").parameters():
                parameter.zero_()
    return True


def _finer(weights: dict[str, Tensor], skipped: int) -> dict[str, Tensor]:
    """The weights by their names in a decoder without the first ``skipped`` scales."""
    if not skipped:
        return weights
    found = {}
    for name, tensor in weights.items():
        part, index, *rest = name.split(".")
        if part in ("scales", "upsamples"):
            if int(index) >= skipped:
                found[".".join((part, str(int(index) - skipped), *rest))] = tensor
        elif part != "conv_first":
            found[name] = tensor
    return found


_Stages = tuple[Mapping[str, Any], ...]
_Encoder = tuple[EncoderConfig | RRDBEncoderConfig, Mapping[str, Tensor]]
ENCODER, INVERTIBLE = "encoder.", "decoder.decoder."  # prefixes of the parts that stage 1 trains, in a whole GRAIN


class StartingPoint(NamedTuple):
    """Trained networks: a recipe with their shapes, stage and level step, weights by their names in an `Autoencoder` of
    a whole GRAIN, and the stages that trained them, as `GrainRun.stages`."""

    recipe: GrainRecipe
    weights: dict[str, Tensor]
    stages: _Stages


def resolve_start(name: str | Path) -> Path:
    """The path of a run's folder or checkpoint, a folder of the zoo, or a bundle given by name or path."""
    if checkpoint_path(Path(name)).is_file() or (Path(name) / TRAINED).is_file():
        return Path(name)
    try:
        return find_bundle(str(name))
    except BundleError as error:
        raise BundleError(f"{name} is no run, and no bundle either: {error}") from error


def read_start(start: Path, prior: GenerativePrior | None) -> StartingPoint:
    """The networks of a bundle's folder, a folder of the zoo, or a run's folder or checkpoint, with this generator."""
    if (start / MANIFEST).is_file():
        return _of_bundle(start)
    if (start / TRAINED).is_file():
        return _of_zoo(start, prior)
    run = load_run(start, prior if isinstance(read_recipe(start).decoder, GrainConfig) else None)
    weights = run.average.state_dict()
    if isinstance(run.average.decoder, RRDBDecoder):
        weights = {re.sub(r"^decoder\.", INVERTIBLE, name): tensor for name, tensor in weights.items()}
    return StartingPoint(run.recipe, weights, run.stages)


def _starting_point(
    stage: str, encoder: _Encoder, decoder: RRDBDecoder | Grain, step: int, stages: _Stages
) -> StartingPoint:
    config, of_encoder = encoder  # of which only the box mean has no weights
    recipe = GrainRecipe(stage=stage, encoder=config, decoder=decoder.config, correction=bool(of_encoder), lr_step=step)
    weights = {ENCODER + name: tensor for name, tensor in of_encoder.items()}
    prefix = "decoder." if isinstance(decoder, Grain) else INVERTIBLE
    weights |= {prefix + name: tensor for name, tensor in decoder.state_dict().items()}
    return StartingPoint(recipe, weights, stages)


def _of_bundle(folder: Path) -> StartingPoint:
    """The networks of a bundle; the twin encoder, or the box mean, computes the bundle's LRs to the byte."""
    manifest = load_manifest(folder)
    decoder = bundle_decoder(manifest)
    stage = "final" if isinstance(decoder, Grain) else "1"
    if RRDB_ENCODER_WEIGHTS in manifest.files:
        manifest.verify_file(RRDB_ENCODER_WEIGHTS)
        paper = papers.load("grain.rrdb_encoder:load_rrdb_encoder")(manifest.path(RRDB_ENCODER_WEIGHTS))
        shape, weights = paper.config, {f"network.{name}": tensor for name, tensor in paper.state_dict().items()}
        config = RRDBEncoderConfig(manifest.hr, manifest.lr, shape.channels, shape.growth, shape.blocks)
        encoder: _Encoder = config, weights
    else:
        encoder = _exact_encoder(manifest.id, load_integer_network(manifest.open_file(ENCODER_WEIGHTS)), decoder)
    training, step = manifest.training, CoderTables.from_json(manifest.open_file(CODER_TABLES)).step
    own = {"stage": str(training.get("stage", stage)), "pictures": training.get("pictures_seen", 0)}
    return _starting_point(stage, encoder, decoder, step, tuple(training.get("stages") or [own]))


def _of_zoo(folder: Path, prior: GenerativePrior | None) -> StartingPoint:
    grain, history = load_zoo(folder, prior), read_history(folder / TRAINED)
    decoder = grain if grain.prior is not None else grain.decoder
    network, step = zoo_encoder(folder)
    encoder = _exact_encoder(folder.name, network, decoder)
    stage = str(history[-1]["stage"]) if history else "final"
    return _starting_point(stage, encoder, decoder, step, history)


def trained_decoder(start: str | Path) -> RRDBDecoder:
    """The invertible decoder of a run, of a folder of the zoo, or of a bundle given by name or path."""
    return invertible_decoder_of(read_start(resolve_start(start), None))


def invertible_decoder_of(start: StartingPoint) -> RRDBDecoder:
    """The invertible decoder, alone or as a part of GRAIN, with its weights."""
    decoder = RRDBDecoder(start.recipe.invertible)
    decoder.load_state_dict({name: start.weights[INVERTIBLE + name] for name in decoder.state_dict()})
    return decoder


def _exact_encoder(name: str, network: IntegerNetwork | None, decoder: RRDBDecoder | Grain) -> _Encoder:
    """The twin of an exact encoder; no weights for none, or for one that is the box mean alone."""
    if network is None or network.architecture == box_network(network.hr, network.lr).architecture:
        shape = decoder.config.decoder if isinstance(decoder, Grain) else decoder.config
        return EncoderConfig(shape.hr, shape.lr, patch=shape.hr // shape.lr, channels=(1,), blocks=(0,)), {}
    try:
        config = config_from_name(network.architecture)
    except ValueError as error:
        raise BundleError(f"{name} cannot be trained further: {error}") from error
    return config, raise_twin(network, config).state_dict()


def start_run(recipe: GrainRecipe, start: Path | None, prior: GenerativePrior | None = None) -> GrainRun:
    """A run at its first step. Parts that ``start`` has take its shapes and weights (the averaged ones of a run) unless
    the recipe grows (`grow`, `deepened`); others are random."""
    if start is None:
        if recipe.stage != "1" and not recipe.random_pictures:
            raise EdgegrainError(f"stage {recipe.stage} builds on a trained decoder; --init-from a run or a bundle")
        if recipe.correction and "encoder" not in recipe.trains and not recipe.random_pictures:
            raise EdgegrainError(
                "this recipe does not train the encoder, which would keep random weights; --init-from a run or a "
                "bundle, whose encoder stays, or begin with a recipe that trains it"
            )
        model = Autoencoder(recipe, prior)
        return GrainRun(recipe, model, frozen_copy(model))
    if not any((start / name).is_file() for name in (MANIFEST, TRAINED)):
        adopt(recipe, read_recipe(start))  # refuses other shapes before the weights are read
    source, weights, history = found = read_start(start, prior)
    recipe = adopt(recipe, source, history)
    if isinstance(recipe.decoder, GrainConfig) and prior is None:
        raise EdgegrainError(f"stage {recipe.stage} needs the generator whole, as its file holds it; pass --prior")
    model = Autoencoder(recipe, prior)
    if recipe.encoder != source.encoder and not deepened(model.encoder, source.encoder):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith((ENCODER, "rate."))}
    if isinstance(model.decoder, RRDBDecoder) and recipe.grows:
        grow(model.decoder, invertible_decoder_of(found))
        weights |= {INVERTIBLE + name: tensor for name, tensor in model.decoder.state_dict().items()}
    own = model.state_dict()
    kept = (PRIOR, *(["decoder.fusion."] if begins_fusion(recipe, source, history) else []))
    for name, tensor in weights.items():
        target = name if isinstance(model.decoder, Grain) else name.replace(INVERTIBLE, "decoder.")
        if target in own and not name.startswith(kept):
            own[target] = tensor
    model.load_state_dict(own)
    return GrainRun(recipe, model, frozen_copy(model), history=history)


def adopt(recipe: GrainRecipe, source: GrainRecipe, history: Sequence[Mapping[str, Any]] = ()) -> GrainRecipe:
    """The recipe of a new run with the shapes of the parts that ``source`` has, and its step if it names none."""
    sizes = (recipe.encoder.hr, recipe.encoder.lr), (source.encoder.hr, source.encoder.lr)
    wanted, there = (f"pictures of {hr}x{hr} with LRs of {lr}x{lr}" for hr, lr in sizes)
    if wanted != there and not recipe.grows:
        raise BundleError(
            f"this recipe is for {wanted}, what it starts from is for {there}; choose a recipe and a start of the same "
            "sizes"
        )
    decoder = source.decoder
    if recipe.grows:
        decoder = recipe.decoder
    elif isinstance(recipe.decoder, GrainConfig):
        if isinstance(decoder, GrainConfig) and decoder.prior is not None:
            codes, own = decoder.codes, recipe.decoder.codes
            if codes and own and set(codes.offsets) <= set(own.offsets):  # new ones are zero: the output stays
                decoder = replace(decoder, codes=replace(codes, offsets=own.offsets))
            if begins_fusion(recipe, source, history):
                decoder = replace(decoder, fusion=recipe.decoder.fusion)
        else:
            decoder = replace(recipe.decoder, decoder=source.invertible)
    elif isinstance(decoder, GrainConfig):
        raise BundleError(
            "this stage trains the invertible decoder alone, but what it starts from is a whole GRAIN; begin with a "
            "run or bundle of stage 1, or choose a recipe of a later stage"
        )
    # A frozen encoder stays: a new one would keep random weights.
    replaced = recipe.encoder.lr > source.encoder.lr or "encoder" in recipe.trains
    means = not source.correction and wanted == there  # the shape of an encoder without weights
    encoder = recipe.encoder if means or (recipe.grows and replaced) else source.encoder
    # A control of a later stage takes the decoder of a model with a correction, and drops the correction. Stage 1 may
    # begin a correction around a decoder that knows box means.
    corrects = recipe.correction and (source.correction or (recipe.stage == "1" and "encoder" in recipe.trains))
    # Box means are not the LRs that the steps of the source were chosen for.
    inherits = recipe.lr_step == 1 and (means or encoder == source.encoder) and corrects == source.correction
    step = source.lr_step if inherits else recipe.lr_step
    if isinstance(decoder, DecoderConfig):  # branches for other steps belong to the decoder as it was
        decoder = replace(decoder, step=step if recipe.lr_steps else 0)
    return continued(recipe, encoder=encoder, decoder=decoder, correction=corrects, lr_step=step)


def begins_fusion(recipe: GrainRecipe, source: GrainRecipe, history: Sequence[Mapping[str, Any]] = ()) -> bool:
    """True if the fusion starts from random weights: no stage up to ``source`` trained one, or one of another kind."""
    wanted, there = (getattr(each.decoder, "fusion", None) for each in (recipe, source))
    untrained = {source.stage, *(str(stage["stage"]) for stage in history)} <= {"1", "2"}
    return untrained or there is None or (wanted is not None and there.kind != wanted.kind)
