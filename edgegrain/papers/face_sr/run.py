"""The state of a training run of GLEAN or GCFSR, in memory and in a checkpoint, and what it begins with.

GLEAN's bank is in no file of a run, only its hash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.papers.face_sr.bundle import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    save_face_sr,
    trained_state,
)
from edgegrain.papers.face_sr.recipes import FaceSRRecipe
from edgegrain.papers.gcfsr.network import GCFSR
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import open_checkpoint, prefixed
from edgegrain.training.grain.grow import grow as grow_decoder
from edgegrain.training.grain.start import trained_decoder
from edgegrain.training.prior_files import random_prior
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale

FAMILY = "face_sr"


@dataclass
class FaceSRRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights, which is evaluated and stored. Both GLEANs share one bank.
        adversarial: the discriminator, in recipes that have one.
        pictures: seen so far.
    """

    recipe: FaceSRRecipe
    model: GLEAN | GCFSR
    average: GLEAN | GCFSR
    adversarial: AdversarialLoss | None = None
    pictures: int = 0
    family = FAMILY

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in trained_state(self.model).items()}
        tensors |= {f"average.{name}": tensor for name, tensor in trained_state(self.average).items()}
        if self.adversarial is not None:
            tensors |= prefixed({"discriminator": self.adversarial.discriminator})
        return tensors

    def state(self) -> dict[str, Any]:
        """The hash of GLEAN's bank."""
        return {"bank": prior_digest(self.model.prior) if isinstance(self.model, GLEAN) else ""}

    def save_weights(self, folder: Path) -> None:
        """Write ``glean.safetensors`` or ``gcfsr.safetensors``."""
        training = {"config": self.recipe.as_dict(), "pictures_seen": self.pictures}
        name = GLEAN_WEIGHTS if isinstance(self.average, GLEAN) else GCFSR_WEIGHTS
        save_face_sr(self.average, folder / name, training=training, force=True)


def start_run(recipe: FaceSRRecipe, prior: GenerativePrior | None = None, discriminator: nn.Module | None = None,
              start: str | Path | None = None) -> FaceSRRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        prior: GLEAN's bank; None for GCFSR, and for a bank with random weights.
        discriminator: a trained one; None for the recipe's own with random weights.
        start: trained weights to begin with, or the folder of a run that holds them. GCFSR's may be narrower
            (`grow`). For GLEAN also a GRAIN decoder (`begin_with_grain`): a run, a bundle by name or folder, or a
            folder of the zoo.
    """
    torch.manual_seed(recipe.seed)
    model: GLEAN | GCFSR
    average: GLEAN | GCFSR
    if isinstance(recipe.network, GLEANConfig):
        bank = random_prior(recipe.network.prior, recipe.seed) if prior is None else prior
        model, average = GLEAN(recipe.network, bank), GLEAN(recipe.network, bank)
        if start is not None and not _weights(start, GLEAN_WEIGHTS).is_file():
            begin_with_grain(model, trained_decoder(start))
        elif start is not None:
            trained = load_glean(_weights(start, GLEAN_WEIGHTS), bank)
            if trained.config != recipe.network:
                raise ModelError(f"{start} holds {trained.config}, the recipe has {recipe.network}")
            model.load_state_dict(trained.state_dict())
    else:
        model, average = GCFSR(recipe.network), GCFSR(recipe.network)
        if start is not None:
            grow(model, load_gcfsr(_weights(start, GCFSR_WEIGHTS)))
    average.load_state_dict(model.state_dict())
    average.eval().requires_grad_(False)
    adversarial = AdversarialLoss(recipe.adversarial, discriminator) if recipe.adversarial is not None else None
    return FaceSRRun(recipe, model, average, adversarial)


def load_run(folder: Path, prior: GenerativePrior | None = None) -> FaceSRRun:
    """The run of a folder, on the CPU.

    Args:
        folder: of the run.
        prior: GLEAN's bank, as in `start_run`.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(FaceSRRecipe.from_dict(stored.config), prior)
        if isinstance(run.model, GLEAN) and stored.state["bank"] != prior_digest(run.model.prior):
            raise ModelError(f"{folder} was trained with another bank than the one given; pass --prior with that one")
        for name, network in (("model", run.model), ("average", run.average)):
            state = stored.part(name)
            if missing := sorted(trained_state(network).keys() ^ state.keys()):
                raise KeyError(f"weights are missing or unknown: {missing[:3]}")
            network.load_state_dict(state, strict=False)
        if run.adversarial is not None:
            run.adversarial.discriminator.load_state_dict(stored.part("discriminator"))
        run.pictures = stored.pictures
        return run


def _weights(start: str | Path, name: str) -> Path:
    """The file, given itself or its folder."""
    return Path(start) / name if Path(start).is_dir() else Path(start)


def begin_with_grain(network: GLEAN, trained: RRDBDecoder) -> None:
    """Give RRDBs, scales and RGB head the weights of a decoder that has grown from ``trained`` to their shape (`grow`).

    The bank begins without effect on the picture.

    Args:
        network: new, with `GLEANConfig.scales`.
        trained: of the same LR size or a smaller one, and with the same head.
    """
    config = network.config
    if not config.scales:
        raise ModelError("only a GLEAN with the scales of GRAIN's decoder can begin with one; this recipe has the "
                         "paper's decoder")
    first = Scale(config.lr, config.width, rrdb=config.rrdb, growth=config.growth)
    decoder = RRDBDecoder(DecoderConfig((first, *config.scales), "bilinear", head=()))
    grow_decoder(decoder, trained)
    weights = {_name_in_glean(name): tensor for name, tensor in decoder.state_dict().items()}
    network.load_state_dict({**network.state_dict(), **weights})


def _name_in_glean(name: str) -> str:
    part, *rest = name.split(".")
    if part == "conv_first":
        return f"features.{name}"
    if part == "head":
        return ".".join(("to_rgb", *rest))
    index = int(rest[0])
    if part == "upsamples":
        return ".".join(("up", str(index), "upsample", *rest[1:]))
    if index == 0:
        return ".".join(("features", {"blocks": "body", "conv": "conv_body"}[rest[1]], *rest[2:]))
    return ".".join(("up", str(index - 1), "scale", *rest[1:]))


@torch.no_grad()
def grow(network: GCFSR, trained: GCFSR) -> None:
    """Give ``network`` the weights of ``trained``, so that both restore the same pictures.

    Further channels come after those of ``trained``. They keep their random weights, but the channels of ``trained`` do
    not read them at first: these weights begin at 0 and are learned.

    Args:
        network: new, with `GCFSRConfig.channel_base` or `GCFSRConfig.channel_max` at least as large.
        trained: otherwise of the same configuration.
    """
    wide, narrow = network.config, trained.config
    same = replace(narrow, channel_base=wide.channel_base, channel_max=wide.channel_max) == wide
    if not same or any(wide.channels(side) < narrow.channels(side) for side in wide.levels):
        raise ModelError(f"the network to begin with must be narrower than the recipe's and otherwise equal: it is "
                         f"{narrow}, the recipe has {wide}")
    state = network.state_dict()
    for name, weights in trained.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            outputs, inputs = weights.shape[:2]
            state[name][:outputs, inputs:] = 0
            weights = weights * (_scale(trained, layer) / _scale(network, layer))
        state[name][tuple(slice(length) for length in weights.shape)] = weights
    network.load_state_dict(state)


def _scale(network: GCFSR, layer: str) -> float:
    """Factor on a layer's weights when they are used: equalized learning rates make it depend on the inputs' number."""
    return float(network.get_submodule(layer).scale)  # type: ignore[arg-type]  # torch's stubs have no such attribute
