"""The state of a StyleGAN2's training, in memory and on disk.

As in every stage, no optimizer moments are stored: a warm-up rebuilds them.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.training.stylegan.recipes import PriorTrainingConfig
from edgegrain.training.weight_shards import load_shards, save_shards
from server_decoder.stylegan2.checkpoints import load_discriminator, load_stylegan2, save_stylegan2
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2

CHECKPOINT = "last.safetensors"
NETWORKS = "stylegan2.safetensors"
"""What a run is for: the averaged generator and the discriminator, as `load_stylegan2` reads them."""
_FORMAT = "edgegrain-prior-run-1"


@dataclass
class PriorRun:
    """A run of `edgegrain.training.stylegan.loop`.

    Attributes:
        average: the generator with averaged weights: what is sampled and published.
        pictures: real ones seen so far.
        steps: taken so far; the lazy regularizers follow them.
        p: probability of every augmentation.
        path_length: running mean of the path lengths.
    """

    config: PriorTrainingConfig
    generator: StyleGAN2
    average: StyleGAN2
    discriminator: Discriminator
    pictures: int = 0
    steps: int = 0
    p: float = 0.0
    path_length: float = 0.0


def begin(config: PriorTrainingConfig, start: Path | None = None) -> PriorRun:
    """A run at its first step.

    Args:
        config: the recipe.
        start: a StyleGAN2 to fine-tune, with or without its discriminator; it gives the sizes too, up to the recipe's
            picture size. A generator that is larger is cut, and its discriminator begins anew.

    Raises:
        ModelError: ``start`` is no StyleGAN2 of ours, or too small.
    """
    torch.manual_seed(config.seed)
    if start is None:
        generator, discriminator = StyleGAN2(config.network), Discriminator(config.network)
    else:
        generator = load_stylegan2(start, cut_to=config.network.size)
        discriminator = _discriminator(start, generator)
        config = replace(config, network=generator.config)
    return PriorRun(config, generator, copy.deepcopy(generator).eval().requires_grad_(False), discriminator)


def save(folder: Path, run: PriorRun) -> None:
    """Write the checkpoint of a run, and its networks as a file that can be used; both replace older ones."""
    networks: dict[str, nn.Module] = {
        "generator": run.generator, "average": run.average, "discriminator": run.discriminator}
    tensors = {f"{prefix}.{name}": tensor for prefix, network in networks.items()
               for name, tensor in network.state_dict().items()}
    metadata = {"format": _FORMAT, "config": json.dumps(run.config.as_dict()), "state": json.dumps(
        {"pictures": run.pictures, "steps": run.steps, "p": run.p, "path_length": run.path_length})}
    save_shards(folder / CHECKPOINT, tensors, metadata, run.pictures)
    save_stylegan2(folder / NETWORKS, run.average, run.discriminator, force=True,
                   metadata={"pictures_seen": str(run.pictures)})


def load(folder: Path) -> PriorRun:
    """The run of a folder, on the CPU: weights and counters are exactly those that were saved.

    Raises:
        ModelError: there is none, or a part of it is absent or damaged.
    """
    path = folder / CHECKPOINT
    try:
        metadata, tensors = load_shards(path)
        if metadata.get("format") != _FORMAT:
            raise ModelError(f"{path} is no training of a prior (format {metadata.get('format')!r}, expected "
                             f"{_FORMAT!r})")
        config = PriorTrainingConfig.from_dict(json.loads(metadata["config"]))
        run = PriorRun(config, StyleGAN2(config.network), StyleGAN2(config.network), Discriminator(config.network),
                       **json.loads(metadata["state"]))
        for prefix in ("generator", "average", "discriminator"):
            getattr(run, prefix).load_state_dict({
                name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()
                if name.startswith(f"{prefix}.")})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} cannot be continued ({error}); expected a checkpoint of a prior's training"
                         ) from error
    run.average.eval().requires_grad_(False)
    return run


def _discriminator(path: Path, generator: StyleGAN2) -> Discriminator:
    with safe_open(path, "pt") as file:
        has_one = any(name.startswith("discriminator.") for name in file.keys())
        size = json.loads((file.metadata() or {})["config"])["size"]
    if has_one and size == generator.size:
        return load_discriminator(path, generator.config)
    return Discriminator(generator.config)
