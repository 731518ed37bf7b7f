"""The state of a training run of IRN, in memory and in a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.bundle.file_names import IRN_WEIGHTS
from edgegrain.papers.irn.discriminator import IRNDiscriminator
from edgegrain.papers.irn.grow import grow
from edgegrain.papers.irn.network import IRN
from edgegrain.papers.irn.recipes import IRNRecipe
from edgegrain.papers.irn.weights import load_irn, save_irn
from edgegrain.training.checkpoint import open_checkpoint, prefixed

FAMILY = "irn"


@dataclass
class IRNRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights.
        discriminator: of IRN+.
        pictures: crops seen so far.
    """

    recipe: IRNRecipe
    model: IRN
    average: IRN
    discriminator: IRNDiscriminator | None
    pictures: int = 0
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        return networks if self.discriminator is None else {**networks, "discriminator": self.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        return {}

    def save_weights(self, folder: Path) -> None:
        """Write ``irn.safetensors``."""
        training = {"config": self.recipe.as_dict(), "crops_seen": self.pictures}
        save_irn(self.average, folder / IRN_WEIGHTS, training=training, force=True)


def start_run(recipe: IRNRecipe, start: Path | None = None) -> IRNRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        start: an ``irn.safetensors``, or a folder with one, to begin with: IRN+ begins with a pre-trained IRN, a larger
            network with a smaller one (`edgegrain.papers.irn.grow`).

    Raises:
        ModelError: ``start`` is no such file, or holds a network that is not the recipe's nor a smaller one.
    """
    torch.manual_seed(recipe.seed)
    model = IRN(recipe.network)
    if start is not None:
        trained = load_irn(start / IRN_WEIGHTS if start.is_dir() else start)
        grow(model, trained)
    discriminator = IRNDiscriminator(recipe.crop, recipe.discriminator) if recipe.discriminator else None
    return IRNRun(recipe, model, copy.deepcopy(model).eval().requires_grad_(False), discriminator)


def load_run(folder: Path) -> IRNRun:
    """The run of a folder, on the CPU.

    Raises:
        ModelError: there is no run, or a part of it is damaged.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(IRNRecipe.from_dict(stored.config))
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix) or stored.part("judge"))  # the name in edgegrain 0.5
        run.pictures = stored.pictures
        return run
