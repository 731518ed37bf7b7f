"""The state of a training run of a StyleGAN2, in memory and in a checkpoint."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgegrain.papers.stylegan.recipes import StyleGAN2Recipe
from edgegrain.training.checkpoint import open_checkpoint, prefixed
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2
from server_decoder.stylegan2.weights import load_discriminator, load_stylegan2, save_stylegan2

NETWORKS = "stylegan2.safetensors"
"""The result of a run: averaged generator and discriminator, as `load_stylegan2` reads them."""
FAMILY = "stylegan2"


@dataclass
class StyleGAN2Run:
    """The state of a training run.

    Attributes:
        average: the generator with averaged weights, which is sampled and published.
        pictures: real ones seen so far.
        steps: taken in all sessions; the lazy regularizers follow them.
        p: probability of every augmentation.
        path_length: running mean of the path lengths.
    """

    recipe: StyleGAN2Recipe
    generator: StyleGAN2
    average: StyleGAN2
    discriminator: Discriminator
    pictures: int = 0
    steps: int = 0
    p: float = 0.0
    path_length: float = 0.0
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        return {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        """Values that the next session continues with."""
        return {"steps": self.steps, "p": self.p, "path_length": self.path_length}

    def save_weights(self, folder: Path) -> None:
        """Measure the mean code of the averaged generator and write ``stylegan2.safetensors``."""
        self.average.measure_mean_code()
        save_stylegan2(folder / NETWORKS, self.average, self.discriminator, force=True,
                       metadata={"pictures_seen": str(self.pictures)})


def start_run(recipe: StyleGAN2Recipe, start: Path | None = None) -> StyleGAN2Run:
    """A run at its first step.

    Args:
        recipe: of the run.
        start: a StyleGAN2 to fine-tune, with or without its discriminator, or the folder of a run. It also gives the
            sizes, up to the recipe's picture size. A larger generator is cut, and its discriminator is replaced by a
            new one.

    Raises:
        ModelError: ``start`` is no StyleGAN2 in edgegrain's format, or too small.
    """
    torch.manual_seed(recipe.seed)
    if start is None:
        generator, discriminator = StyleGAN2(recipe.network), Discriminator(recipe.network)
    else:
        start = start / NETWORKS if start.is_dir() else start
        generator = load_stylegan2(start, cut_to=recipe.network.size)
        discriminator = _discriminator(start, generator)
        recipe = replace(recipe, network=generator.config)
    return StyleGAN2Run(recipe, generator, copy.deepcopy(generator).eval().requires_grad_(False), discriminator)


def load_run(folder: Path) -> StyleGAN2Run:
    """The run of a folder, on the CPU: weights and counters are exactly those that were saved.

    Raises:
        ModelError: there is none, or a part of it is missing or damaged.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        recipe = StyleGAN2Recipe.from_dict(stored.config)
        values = {name: stored.state[name] for name in ("steps", "p", "path_length")}
        run = StyleGAN2Run(recipe, StyleGAN2(recipe.network), StyleGAN2(recipe.network), Discriminator(recipe.network),
                       stored.pictures, **values)
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix))
        run.average.eval().requires_grad_(False)
        return run


def _discriminator(path: Path, generator: StyleGAN2) -> Discriminator:
    with safe_open(path, "pt") as file:
        has_one = any(name.startswith("discriminator.") for name in file.keys())
        size = json.loads((file.metadata() or {})["config"])["size"]
    if has_one and size == generator.size:
        return load_discriminator(path, generator.config)
    return Discriminator(generator.config)
