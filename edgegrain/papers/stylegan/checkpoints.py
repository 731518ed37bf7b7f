"""Public checkpoints of StyleGAN2, which are converted once to weight files.

The header of such a file gets name, SHA-256, layout and licence of the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from codec_contract.errors import ExistsError, ModelError
from edgegrain.papers.public_checkpoint import read_tensors
from edgegrain.papers.stylegan.layouts import NVIDIA, ROSINALITY, Layout, translate
from server_decoder.stylegan2 import NVIDIA_LICENCE
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config
from server_decoder.stylegan2.weights import write_states

_LICENCE = f"the file states none; NVIDIA's networks: {NVIDIA_LICENCE}"


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
    write_states(target, networks.config, states, force,
           {"layout": networks.layout, "source": source.name, "source_sha256": digest, "licence": _LICENCE,
            "origin": f"{source.name}, SHA-256 {digest[:16]}"})
    ours = {f"{network}.{name}" for network, state in states.items() for name in state}
    return Conversion(target, networks.layout, networks.config,
                      {name: _parameters(networks.config, name) for name in states}, networks.names,
                      tuple(sorted(ours - set(networks.names.values()))),
                      tuple(sorted(set(tensors) - set(networks.names))), digest)


def _layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    nvidia = any(name.endswith(("synthesis.b4.const", "b4.fc.weight")) for name in tensors)
    return NVIDIA if nvidia else ROSINALITY


def _parameters(config: StyleGAN2Config, network: str) -> int:
    with torch.device("meta"):
        module = StyleGAN2(config) if network == "generator" else Discriminator(config)
    return sum(parameter.numel() for parameter in module.parameters())
