"""The state of a training run of GLEAN or GCFSR, in memory and in a checkpoint.

GLEAN's bank is in no file of a run, only its hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.papers.face_sr.grain_start import begin_with_grain
from edgegrain.papers.face_sr.grow import grow
from edgegrain.papers.face_sr.recipes import FaceSRRecipe
from edgegrain.papers.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    save_gcfsr,
    save_glean,
    trained_state,
)
from edgegrain.papers.gcfsr.network import GCFSR
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import open_checkpoint, prefixed
from edgegrain.training.grain.start import trained_decoder
from edgegrain.training.prior_files import random_prior
from server_decoder.generative_prior import GenerativePrior, prior_digest

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
        if isinstance(self.average, GLEAN):
            save_glean(self.average, folder / GLEAN_WEIGHTS, training=training, force=True)
        else:
            save_gcfsr(self.average, folder / GCFSR_WEIGHTS, training=training, force=True)


def start_run(recipe: FaceSRRecipe, prior: GenerativePrior | None = None, discriminator: nn.Module | None = None,
              start: str | Path | None = None) -> FaceSRRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        prior: GLEAN's bank; None for GCFSR, and for a bank with random weights.
        discriminator: a trained one; None for the recipe's own with random weights.
        start: trained weights to begin with, or the folder of a run that holds them. GCFSR's may be narrower
            (`grow.grow`). For GLEAN also a GRAIN decoder, as `grain_start.begin_with_grain` takes it: a run, a bundle
            by name or folder, or a folder of the zoo.

    Raises:
        BundleError, ModelError: ``start`` is none of these, or holds a network of another shape or bank.
    """
    torch.manual_seed(recipe.seed)
    model: GLEAN | GCFSR
    average: GLEAN | GCFSR
    if isinstance(recipe.network, GLEANConfig):
        bank = random_prior(recipe.network.prior, recipe.seed) if prior is None else prior
        model, average = GLEAN(recipe.network, bank), GLEAN(recipe.network, bank)
        if start is not None and not _is_glean(start):
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

    Raises:
        ModelError: there is no run, a part of it is damaged, or the bank is another.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(FaceSRRecipe.from_dict(stored.config), prior)
        if isinstance(run.model, GLEAN) and stored.state["bank"] != prior_digest(run.model.prior):
            raise ModelError(f"{folder} was trained with another bank than the one given; pass --prior with that one")
        _fill(run.model, stored.part("model"))
        _fill(run.average, stored.part("average"))
        if run.adversarial is not None:
            run.adversarial.discriminator.load_state_dict(stored.part("discriminator"))
        run.pictures = stored.pictures
        return run


def _is_glean(start: str | Path) -> bool:
    return _weights(start, GLEAN_WEIGHTS).is_file()


def _weights(start: str | Path, name: str) -> Path:
    """The file, given itself or its folder."""
    return Path(start) / name if Path(start).is_dir() else Path(start)


def _fill(network: GLEAN | GCFSR, state: dict[str, Tensor]) -> None:
    if missing := sorted(trained_state(network).keys() ^ state.keys()):
        raise KeyError(f"weights are missing or unknown: {missing[:3]}")
    network.load_state_dict(state, strict=False)
