"""A run that trains GLEAN or GCFSR: its networks, and how they are kept between turns.

GLEAN's bank is in no file of a run, only its hash. Optimizer moments are not stored either: a warm-up rebuilds them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.training.adversarial import Opponent
from edgegrain.training.face_sr.recipes import FaceSRTraining
from edgegrain.training.prior_files import random_prior
from edgegrain.training.weight_shards import load_shards, save_shards
from server_decoder.face_sr.gcfsr import GCFSR
from server_decoder.face_sr.glean import GLEAN, GLEANConfig
from server_decoder.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    save_gcfsr,
    save_glean,
    trained_state,
)
from server_decoder.generative_prior import GenerativePrior, digest

CHECKPOINT = "last.safetensors"
_FORMAT = "edgegrain face SR training 1"
_MODEL, _AVERAGE, _DISCRIMINATOR = "model.", "average.", "discriminator."


@dataclass
class FaceSRRun:
    """A run of `edgegrain.training.face_sr.loop`.

    Attributes:
        model: what the optimizer moves.
        average: the same with averaged weights: what is evaluated and kept. Both GLEANs hold one bank.
        opponent: the discriminator, in recipes that have one.
        pictures: seen so far.
    """

    config: FaceSRTraining
    model: GLEAN | GCFSR
    average: GLEAN | GCFSR
    opponent: Opponent | None = None
    pictures: int = 0


def begin(config: FaceSRTraining, prior: GenerativePrior | None = None, discriminator: nn.Module | None = None,
          start: Path | None = None) -> FaceSRRun:
    """A run at its first step.

    Args:
        config: the recipe.
        prior: GLEAN's bank; None for GCFSR, and for a bank with random weights.
        discriminator: trained before; None for the recipe's own, from random weights.
        start: trained weights to begin with, or the folder of a run that holds them.

    Raises:
        ModelError: ``start`` is no such file, or holds a network of another shape or bank.
    """
    torch.manual_seed(config.seed)
    model: GLEAN | GCFSR
    average: GLEAN | GCFSR
    trained: GLEAN | GCFSR | None = None
    if isinstance(config.network, GLEANConfig):
        bank = random_prior(config.network.prior, config.seed) if prior is None else prior
        model, average = GLEAN(config.network, bank), GLEAN(config.network, bank)
        if start is not None:
            trained = load_glean(start / GLEAN_WEIGHTS if start.is_dir() else start, bank)
    else:
        model, average = GCFSR(config.network), GCFSR(config.network)
        if start is not None:
            trained = load_gcfsr(start / GCFSR_WEIGHTS if start.is_dir() else start)
    if trained is not None:
        if trained.config != config.network:
            raise ModelError(f"{start} holds {trained.config}, the recipe has {config.network}")
        model.load_state_dict(trained.state_dict())
    average.load_state_dict(model.state_dict())
    average.eval().requires_grad_(False)
    opponent = Opponent(config.adversarial, discriminator) if config.adversarial is not None else None
    return FaceSRRun(config, model, average, opponent)


def save(folder: Path, run: FaceSRRun) -> None:
    """Write the checkpoint of a run, and its averaged network as a file that can be used; both replace older ones."""
    tensors = {_MODEL + name: tensor for name, tensor in trained_state(run.model).items()}
    tensors |= {_AVERAGE + name: tensor for name, tensor in trained_state(run.average).items()}
    if run.opponent is not None:
        tensors |= {_DISCRIMINATOR + name: tensor for name, tensor in run.opponent.discriminator.state_dict().items()}
    bank = digest(run.model.prior) if isinstance(run.model, GLEAN) else ""
    save_shards(folder / CHECKPOINT, tensors, {"format": _FORMAT, "config": json.dumps(run.config.as_dict()),
                                               "pictures": str(run.pictures), "bank": bank}, run.pictures)
    training = {"config": run.config.as_dict(), "pictures_seen": run.pictures}
    if isinstance(run.average, GLEAN):
        save_glean(run.average, folder / GLEAN_WEIGHTS, training=training, force=True)
    else:
        save_gcfsr(run.average, folder / GCFSR_WEIGHTS, training=training, force=True)


def load(folder: Path, prior: GenerativePrior | None = None) -> FaceSRRun:
    """The run of a folder, on the CPU.

    Args:
        folder: of the run.
        prior: GLEAN's bank, as in `begin`.

    Raises:
        ModelError: there is no run, a part of it is damaged, or the bank is another.
    """
    path = folder / CHECKPOINT
    try:
        metadata, tensors = load_shards(path)
        if metadata.get("format") != _FORMAT:
            raise ModelError(f"{path} trains neither GLEAN nor GCFSR (format {metadata.get('format')!r}, expected "
                             f"{_FORMAT!r})")
        run = begin(FaceSRTraining.from_dict(json.loads(metadata["config"])), prior)
        if isinstance(run.model, GLEAN) and metadata["bank"] != digest(run.model.prior):
            raise ModelError(f"{path} was trained with another bank than the one given")
        _fill(run.model, _part(tensors, _MODEL))
        _fill(run.average, _part(tensors, _AVERAGE))
        if run.opponent is not None:
            run.opponent.discriminator.load_state_dict(_part(tensors, _DISCRIMINATOR))
        run.pictures = int(metadata["pictures"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} cannot be continued ({error}); expected a checkpoint of a GLEAN or GCFSR") from error
    return run


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill(network: GLEAN | GCFSR, state: dict[str, Tensor]) -> None:
    if missing := sorted(trained_state(network).keys() ^ state.keys()):
        raise KeyError(f"weights are missing or unknown: {missing[:3]}")
    network.load_state_dict(state, strict=False)
