"""The state of a training run of an enlarger, in memory and in a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import open_checkpoint, prefixed
from edgegrain.training.super_resolution.recipes import SuperResolutionRecipe
from export.bundle.enlarger import find_enlarger
from server_decoder.super_resolution.network import SuperResolution
from server_decoder.super_resolution.weights import (
    WEIGHTS,
    holds_super_resolution,
    load_super_resolution,
    save_super_resolution,
)

FAMILY = "super_resolution"


@dataclass
class SuperResolutionRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights, which is evaluated and stored.
        adversarial: the discriminator, in recipes that have one.
        pictures: seen so far.
    """

    recipe: SuperResolutionRecipe
    model: SuperResolution
    average: SuperResolution
    adversarial: AdversarialLoss | None = None
    pictures: int = 0
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        return networks if self.adversarial is None else {**networks, "discriminator": self.adversarial.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        return {}

    def save_weights(self, folder: Path) -> None:
        """Write ``super_resolution.safetensors``, large weights as int8, as bundles hold them."""
        training = {"config": self.recipe.as_dict(), "pictures_seen": self.pictures}
        save_super_resolution(self.average, folder / WEIGHTS, training=training, compact=True, force=True)


def start_run(recipe: SuperResolutionRecipe, start: str | Path | None = None) -> SuperResolutionRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        start: a ``super_resolution.safetensors``, a folder with one, or a bundle with an enlarger, to begin with.

    Raises:
        ModelError: ``start`` holds a network of another shape, or is damaged.
        BundleError: ``start`` is no such file and no such bundle.
    """
    torch.manual_seed(recipe.seed)
    model = SuperResolution(recipe.network)
    if start is not None:
        trained = load_super_resolution(start) if holds_super_resolution(start) else find_enlarger(start).network()
        if trained.config != recipe.network.cut(len(trained.config.factors)):  # a bundle may have one of two doublings
            raise ModelError(f"{start} holds {trained.config}, the recipe has {recipe.network}")
        model.load_state_dict({**model.state_dict(), **trained.state_dict()})
    adversarial = AdversarialLoss(recipe.adversarial) if recipe.adversarial is not None else None
    return SuperResolutionRun(recipe, model, copy.deepcopy(model).eval().requires_grad_(False), adversarial)


def load_run(folder: Path) -> SuperResolutionRun:
    """The run of a folder, on the CPU.

    Raises:
        ModelError: there is no run, or a part of it is damaged.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(SuperResolutionRecipe.from_dict(stored.config))
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix))
        run.pictures = stored.pictures
        return run
