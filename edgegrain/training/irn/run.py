"""A run that trains IRN: its networks, and how they are kept between turns."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.training.irn.discriminator import IRNDiscriminator
from edgegrain.training.irn.recipes import IRNTraining
from edgegrain.training.weight_shards import load_shards, save_shards
from server_decoder.irn.network import IRN
from server_decoder.irn.weights import WEIGHTS, load_irn, save_irn

CHECKPOINT = "last.safetensors"
_FORMAT = "edgegrain IRN training 1"


@dataclass
class IRNRun:
    """A run of `edgegrain.training.irn.loop`; ``average`` has averaged weights, ``judge`` is IRN+'s discriminator."""

    config: IRNTraining
    model: IRN
    average: IRN
    judge: IRNDiscriminator | None
    pictures: int = 0

    def networks(self) -> dict[str, nn.Module]:
        """All of them by their names in a checkpoint."""
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        return networks if self.judge is None else {**networks, "judge": self.judge}


def begin(config: IRNTraining, start: Path | None = None) -> IRNRun:
    """A run at its first step.

    Args:
        config: the recipe.
        start: an ``irn.safetensors``, or a folder that holds one, to begin with: IRN+ begins with a pre-trained IRN.

    Raises:
        ModelError: ``start`` is no such file, or holds a network of another shape.
    """
    torch.manual_seed(config.seed)
    model = IRN(config.network)
    if start is not None:
        trained = load_irn(start / WEIGHTS if start.is_dir() else start)
        if trained.config != config.network:
            raise ModelError(f"{start} holds {trained.config}, the recipe has {config.network}")
        model.load_state_dict(trained.state_dict())
    judge = IRNDiscriminator(config.crop, config.judge) if config.judge else None
    return IRNRun(config, model, copy.deepcopy(model).eval().requires_grad_(False), judge)


def save(folder: Path, run: IRNRun) -> None:
    """Write the checkpoint of a run, and its averaged network as a file that can be used; both replace older ones."""
    tensors = {f"{prefix}.{name}": tensor for prefix, network in run.networks().items()
               for name, tensor in network.state_dict().items()}
    save_shards(folder / CHECKPOINT, tensors, {"format": _FORMAT, "config": json.dumps(run.config.as_dict()),
                                               "pictures": str(run.pictures)}, run.pictures)
    save_irn(run.average, folder / WEIGHTS, training={"config": run.config.as_dict(), "crops_seen": run.pictures},
             force=True)


def load(folder: Path) -> IRNRun:
    """The run of a folder, on the CPU.

    Raises:
        ModelError: there is no run, or a part of it is damaged.
    """
    path = folder / CHECKPOINT
    try:
        metadata, tensors = load_shards(path)
        if metadata.get("format") != _FORMAT:
            raise ModelError(f"{path} trains no IRN (format {metadata.get('format')!r}, expected {_FORMAT!r})")
        run = begin(IRNTraining.from_dict(json.loads(metadata["config"])))
        for prefix, network in run.networks().items():
            network.load_state_dict({name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()
                                     if name.startswith(f"{prefix}.")})
        run.pictures = int(metadata["pictures"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} cannot be continued ({error}); expected a checkpoint of an IRN run") from error
    return run
