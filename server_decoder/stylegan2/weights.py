"""Weight files of StyleGAN2.

Tensors ``generator.*``, ``discriminator.*`` or both, float32. The header has ``format``, ``config`` (JSON of
`StyleGAN2Config`) and entries of the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from codec_contract.errors import ModelError
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import WeightKind, fill, read_config, read_weights, save_network

FORMAT = "edgegrain-stylegan2-1"
_KIND = WeightKind("StyleGAN2", "config", lambda fields: StyleGAN2Config(**fields), {"format": FORMAT},
                   "edgegrain convert --from stylegan2-rosinality makes such a file of a public checkpoint")


def save_stylegan2(path: Path, generator: StyleGAN2, discriminator: Discriminator | None = None, *,
                   metadata: Mapping[str, str] | None = None, force: bool = False) -> None:
    """Write networks as a weight file."""
    states = {"generator": generator.state_dict()}
    if discriminator is not None:
        states["discriminator"] = discriminator.state_dict()
    write_states(path, generator.config, states, force, metadata or {})


def load_stylegan2(path: Path, config: StyleGAN2Config | None = None, *, cut_to: int | None = None) -> StyleGAN2:
    """A generator from a weight file, in evaluation mode.

    Args:
        path: a file that `convert` or `save_stylegan2` wrote.
        config: the expected sizes of the result; None accepts any.
        cut_to: drop the layers above this resolution: the picture then is the sum of the toRGBs up to there.
    """
    stored, state = _load(path, "generator")
    wanted = stored if cut_to is None else stored.cut(cut_to)
    if config is not None and config != wanted:
        hint = f"; cut_to={config.size} drops finer layers" if cut_to is None and config.size < stored.size else ""
        raise ModelError(f"{path} holds a generator of {wanted}, expected {config}{hint}")
    generator = StyleGAN2(wanted)
    # Layers are numbered from coarse to fine, so those of a cut generator keep their names.
    kept = generator.state_dict().keys()
    fill(generator, {name: tensor for name, tensor in state.items() if name in kept or cut_to is None}, path)
    return generator.eval()


def load_discriminator(path: Path, config: StyleGAN2Config | None = None) -> Discriminator:
    """A discriminator from a weight file.

    Args:
        path: a file that `convert` or `save_stylegan2` wrote.
        config: with the expected size and channels; None accepts any.
    """
    stored, state = _load(path, "discriminator")
    if config is not None and (config.size, config.channel_base, config.channel_max) != (
            stored.size, stored.channel_base, stored.channel_max):
        raise ModelError(f"{path} holds a discriminator of {stored}, expected {config}")
    discriminator = Discriminator(stored)
    fill(discriminator, state, path)
    return discriminator


def write_states(path: Path, config: StyleGAN2Config, states: Mapping[str, Mapping[str, Tensor]], force: bool,
                 metadata: Mapping[str, str]) -> None:
    """Write the state dicts of generator, discriminator or both, by these names."""
    state = {f"{network}.{name}": tensor for network, tensors in states.items() for name, tensor in tensors.items()}
    save_network(path, _KIND, asdict(config), state, entries=metadata, dtype=torch.float32, force=force)


def _load(path: Path, network: str) -> tuple[StyleGAN2Config, dict[str, Tensor]]:
    """Configuration and the state of one network; the other network is not read."""
    config = read_config(path, _KIND)
    with _KIND.reading(path):
        state = read_weights(path, f"{network}.")
    if not state:
        raise ModelError(f"{path} holds no {network}")
    return config, state
