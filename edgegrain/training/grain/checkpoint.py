"""The state of a GRAIN run, in memory and in a checkpoint. The generator's weights are in no checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import checkpoint_path, open_checkpoint, prefixed, read_checkpoint_header
from edgegrain.training.grain.autoencoder import Autoencoder, build_autoencoder
from edgegrain.training.grain.stages import GrainRecipe
from server_decoder.generative_prior import GenerativePrior, prior_digest

FAMILY = "grain"


@dataclass
class GrainRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights, which is evaluated and published.
        adversarial: the discriminator, in stages that have one.
        pictures: seen in this stage.
        history: the stages before this one, as in `stages`.
    """

    model: Autoencoder
    average: Autoencoder
    recipe: GrainRecipe
    adversarial: AdversarialLoss | None = None
    pictures: int = 0
    history: tuple[Mapping[str, Any], ...] = ()
    family = FAMILY

    @property
    def stages(self) -> tuple[Mapping[str, Any], ...]:
        """All stages in order, this one included: ``{"stage": ..., "pictures": ...}``, and the weight of a loss against
        grids, ``"grid"``."""
        grid = {"grid": self.recipe.loss.grid} if self.recipe.loss.grid else {}
        return (*self.history, {"stage": self.recipe.stage, "pictures": self.pictures, **grid})

    def tensors(self) -> dict[str, Tensor]:
        """Model, averages of the trained parts and discriminator."""
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        tensors = {f"model.{name}": tensor for name, tensor in _stored(self.model)}
        tensors |= {f"average.{name}": tensor for name, tensor in _stored(self.average) if name in trained}
        if self.adversarial is not None:
            tensors |= prefixed({"discriminator": self.adversarial.discriminator})
        return tensors

    def state(self) -> dict[str, Any]:
        """The stages before this one and the hash of the generator."""
        prior = self.model.prior
        return {"history": list(self.history), "prior": prior_digest(prior) if prior is not None else ""}

    def save_weights(self, folder: Path) -> None:
        """GRAIN has no weight file of its own: ``edgegrain publish`` reads the checkpoint."""


def load_run(path: Path, prior: GenerativePrior | None = None) -> GrainRun:
    """A run from its folder or its checkpoint's first file, on the CPU.

    Args:
        path: the run.
        prior: the generator it was trained with.

    Raises:
        ModelError: the file is no checkpoint of GRAIN, a part of it is missing, or it was trained with another prior.
    """
    with open_checkpoint(path, FAMILY) as stored:
        recipe = GrainRecipe.from_dict(stored.config)
        if stored.state.get("prior") and prior is None:
            raise ModelError(f"{path} was trained with a generator, whose file is needed too (--prior)")
        if stored.state.get("prior") and prior is not None and stored.state["prior"] != prior_digest(prior):
            raise ModelError(f"{path} was trained with another generator than the one given; pass --prior with "
                             "that one")
        model = build_autoencoder(recipe, prior)
        _load(model, stored.part("model"))
        average = copy.deepcopy(model)
        _load(average, stored.part("model") | stored.part("average"))
        adversarial = None
        if recipe.adversarial is not None and (discriminator := stored.part("discriminator")):
            adversarial = AdversarialLoss(recipe.adversarial)
            adversarial.discriminator.load_state_dict(discriminator)
        return GrainRun(model, average.requires_grad_(False), recipe, adversarial, stored.pictures,
                   tuple(stored.state.get("history", [])))


def read_recipe(path: Path) -> GrainRecipe:
    """The configuration of a run, without its weights.

    Raises:
        ModelError: there is no checkpoint, or it is none of GRAIN.
    """
    header = read_checkpoint_header(path)
    try:
        return GrainRecipe.from_dict(json.loads(header["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint_path(path)} is not a training checkpoint of GRAIN ({error})") from error


def _stored(model: Autoencoder) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if not model.is_prior(name):
            yield name, tensor


def _load(model: Autoencoder, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    missing = [name for name in missing if not model.is_prior(name)]
    if missing or unexpected:
        raise KeyError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
