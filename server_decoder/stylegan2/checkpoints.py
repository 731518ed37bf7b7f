"""StyleGAN2 in files: public checkpoints, which are converted once, and weight files.

A weight file holds tensors ``generator.*``, ``discriminator.*`` or both, float32. Its header has ``format``,
``config`` (JSON of `StyleGAN2Config`) and entries of the caller: `convert` adds name, SHA-256, layout and licence of
the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from codec_contract.errors import ExistsError, ModelError
from server_decoder.public_checkpoint import read_tensors
from server_decoder.stylegan2 import NVIDIA_LICENCE
from server_decoder.stylegan2.checkpoint_layouts import NVIDIA, ROSINALITY, Layout, translate
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import WeightKind, fill, read_config, read_weights, save_network

FORMAT = "edgegrain-stylegan2-1"
_LICENCE = f"the file states none; NVIDIA's networks: {NVIDIA_LICENCE}"
_KIND = WeightKind("StyleGAN2", "config", lambda fields: StyleGAN2Config(**fields), {"format": FORMAT},
                   "edgegrain convert --from stylegan2-rosinality makes such a file of a public checkpoint")


@dataclass(frozen=True)
class Conversion:
    """Result of `convert`.

    Attributes:
        path: the file.
        layout: of the source, ``"rosinality"`` or ``"NVIDIA"``.
        config: sizes of the networks.
        parameters: trainable numbers by network, ``{"generator": 30370060, "discriminator": 29012513}``.
        names: as in `Networks`.
        made: our names without a tensor in the source: drawn noise, a measured mean code.
        unused: names of the source's tensors that were not used.
        source_sha256: of the source.
    """

    path: Path
    layout: str
    config: StyleGAN2Config
    parameters: dict[str, int]
    names: dict[str, str] = field(default_factory=dict)
    made: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    source_sha256: str = ""


def convert(source: Path, target: Path, force: bool = False, layout: Layout | None = None) -> Conversion:
    """Rewrite a public checkpoint as a weight file.

    Args:
        source: ``.safetensors`` or a torch file of plain tensors.
        target: the safetensors file to write.
        force: whether to replace it if it exists.
        layout: of the source; None recognizes it by its names.

    Raises:
        ExistsError: the target exists and ``force`` is false.
        ModelError: the source is no StyleGAN2 of a public layout, or the target is a folder.
    """
    if target.is_dir():
        inside = target / f"{source.stem}.safetensors"
        raise ModelError(f"{target} is a folder, and the result is one file; name it, for example {inside}")
    if target.exists() and not force:
        raise ExistsError(target)
    tensors = read_tensors(source)
    networks = translate(tensors, layout or _layout_of(tensors), str(source))
    parts = {"generator": networks.generator, "discriminator": networks.discriminator}
    states = {name: state for name, state in parts.items() if state is not None}
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _write(target, networks.config, states, force,
           {"layout": networks.layout, "source": source.name, "source_sha256": digest, "licence": _LICENCE,
            "origin": f"{source.name}, SHA-256 {digest[:16]}"})
    ours = {f"{network}.{name}" for network, state in states.items() for name in state}
    return Conversion(target, networks.layout, networks.config,
                      {name: _parameters(networks.config, name) for name in states}, networks.names,
                      tuple(sorted(ours - set(networks.names.values()))),
                      tuple(sorted(set(tensors) - set(networks.names))), digest)


def save_stylegan2(path: Path, generator: StyleGAN2, discriminator: Discriminator | None = None, *,
                   metadata: Mapping[str, str] | None = None, force: bool = False) -> None:
    """Write networks as a weight file.

    Raises:
        ExistsError: the file exists and ``force`` is false.
    """
    states = {"generator": generator.state_dict()}
    if discriminator is not None:
        states["discriminator"] = discriminator.state_dict()
    _write(path, generator.config, states, force, metadata or {})


def load_stylegan2(path: Path, config: StyleGAN2Config | None = None, *, cut_to: int | None = None) -> StyleGAN2:
    """A generator from a weight file, in evaluation mode.

    Args:
        path: a file that `convert` or `save_stylegan2` wrote.
        config: the expected sizes of the result; None accepts any.
        cut_to: drop the layers above this resolution: the picture then is the sum of the toRGBs up to there.

    Raises:
        ModelError: the file holds no StyleGAN2, no generator, or one of other sizes.
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

    Raises:
        ModelError: the file holds no StyleGAN2, no discriminator, or one of other sizes.
    """
    stored, state = _load(path, "discriminator")
    if config is not None and (config.size, config.channel_base, config.channel_max) != (
            stored.size, stored.channel_base, stored.channel_max):
        raise ModelError(f"{path} holds a discriminator of {stored}, expected {config}")
    discriminator = Discriminator(stored)
    fill(discriminator, state, path)
    return discriminator


def _write(path: Path, config: StyleGAN2Config, states: Mapping[str, Mapping[str, Tensor]], force: bool,
           metadata: Mapping[str, str]) -> None:
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


def _layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    nvidia = any(name.endswith(("synthesis.b4.const", "b4.fc.weight")) for name in tensors)
    return NVIDIA if nvidia else ROSINALITY


def _parameters(config: StyleGAN2Config, network: str) -> int:
    with torch.device("meta"):
        module = StyleGAN2(config) if network == "generator" else Discriminator(config)
    return sum(parameter.numel() for parameter in module.parameters())
