"""StyleGAN2 in files: public checkpoints, read and converted once; our own, safetensors with the sizes in the header.

Our file holds tensors ``generator.*``, ``discriminator.*`` or both, float32, and the metadata ``format``, ``config``
(JSON of `StyleGAN2Config`) and whatever its maker adds: `convert` the name, the SHA-256 and the layout of the source.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from codec_contract.errors import ModelError
from codec_contract.files import write_atomically
from server_decoder.stylegan2.checkpoint_layouts import NVIDIA, ROSINALITY, Layout, Networks, translate
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config

FORMAT = "edgegrain-stylegan2-1"


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote.

    Attributes:
        path: the file.
        layout: of the source, ``"rosinality"`` or ``"NVIDIA"``.
        config: sizes of the networks.
        parameters: trainable numbers by network, ``{"generator": 30370060, "discriminator": 29012513}``.
        names: as in `Networks`.
        made: names of ours for which the source has no tensor: noise that was drawn, a mean code that was measured.
        unused: names of the source's that nothing was made of.
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
    """Rewrite a public checkpoint as our file.

    Args:
        source: ``.safetensors`` or a torch file of plain tensors.
        target: the safetensors file to write.
        force: whether to replace it if it exists.
        layout: of the source; None for whichever of both it has.

    Raises:
        FileExistsError: the target exists and ``force`` is false.
        ModelError: the source is no StyleGAN2 of a public layout.
    """
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists; choose another name or pass force (--force) to replace it")
    tensors = read_tensors(source)
    networks = translate(tensors, layout or _layout_of(tensors), str(source))
    parts = {"generator": networks.generator, "discriminator": networks.discriminator}
    states = {name: state for name, state in parts.items() if state is not None}
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _write(target, networks.config, states, force,
           {"layout": networks.layout, "source": source.name, "source_sha256": digest})
    ours = {f"{network}.{name}" for network, state in states.items() for name in state}
    return Conversion(target, networks.layout, networks.config,
                      {name: _parameters(networks.config, name) for name in states}, networks.names,
                      tuple(sorted(ours - set(networks.names.values()))),
                      tuple(sorted(set(tensors) - set(networks.names))), digest)


def load_checkpoint(path: Path) -> Networks:
    """The networks of a public checkpoint, whichever of the two layouts it has.

    Raises:
        ModelError: the file cannot be read, or is no StyleGAN2 of a public layout.
    """
    tensors = read_tensors(path)
    return translate(tensors, _layout_of(tensors), str(path))


def load_rosinality(path: Path) -> Networks:
    """The networks of a rosinality checkpoint: ``g_ema`` and ``d``, or one of them alone.

    Raises:
        ModelError: the file cannot be read, or has another layout.
    """
    return translate(read_tensors(path), ROSINALITY, str(path))


def load_nvidia(path: Path) -> Networks:
    """The networks of a file of plain tensors with NVIDIA's names: ``G_ema`` and ``D``, or one of them alone.

    Raises:
        ModelError: the file cannot be read, or has another layout.
    """
    return translate(read_tensors(path), NVIDIA, str(path))


def save_stylegan2(path: Path, generator: StyleGAN2, discriminator: Discriminator | None = None, *,
                   metadata: Mapping[str, str] | None = None, force: bool = False) -> None:
    """Write networks as our file.

    Raises:
        FileExistsError: the file exists and ``force`` is false.
    """
    states = {"generator": generator.state_dict()}
    if discriminator is not None:
        states["discriminator"] = discriminator.state_dict()
    _write(path, generator.config, states, force, metadata or {})


def load_stylegan2(path: Path, config: StyleGAN2Config | None = None, *, cut_to: int | None = None) -> StyleGAN2:
    """A generator from our file, in evaluation mode.

    Args:
        path: what `convert` or `save_stylegan2` wrote.
        config: the sizes that are expected of the result; None takes any.
        cut_to: drop the layers above this resolution: the picture then is the sum of the toRGBs up to there.

    Raises:
        ModelError: the file is not ours, has no generator, or one of other sizes.
    """
    stored, state = _load(path, "generator")
    wanted = stored if cut_to is None else stored.cut(cut_to)
    if config is not None and config != wanted:
        hint = f"; cut_to={config.size} drops finer layers" if cut_to is None and config.size < stored.size else ""
        raise ModelError(f"{path} holds a generator of {wanted}, expected {config}{hint}")
    generator = StyleGAN2(wanted)
    # Layers are numbered from coarse to fine, so those of a cut generator keep their names.
    kept = generator.state_dict().keys()
    _fill(generator, {name: tensor for name, tensor in state.items() if name in kept or cut_to is None}, path)
    return generator.eval()


def load_discriminator(path: Path, config: StyleGAN2Config | None = None) -> Discriminator:
    """A discriminator from our file.

    Args:
        path: what `convert` or `save_stylegan2` wrote.
        config: whose size and channels are expected; None takes any.

    Raises:
        ModelError: the file is not ours, has no discriminator, or one of other sizes.
    """
    stored, state = _load(path, "discriminator")
    if config is not None and (config.size, config.channel_base, config.channel_max) != (
            stored.size, stored.channel_base, stored.channel_max):
        raise ModelError(f"{path} holds a discriminator of {stored}, expected {config}")
    discriminator = Discriminator(stored)
    _fill(discriminator, state, path)
    return discriminator


def _write(path: Path, config: StyleGAN2Config, states: Mapping[str, Mapping[str, Tensor]], force: bool,
           metadata: Mapping[str, str]) -> None:
    tensors = {f"{network}.{name}": tensor.detach().float().cpu().contiguous()
               for network, state in states.items() for name, tensor in state.items()}
    header = {**metadata, "format": FORMAT, "config": json.dumps(asdict(config))}
    write_atomically(path, serialize(tensors, metadata=header), force=force)


def _load(path: Path, network: str) -> tuple[StyleGAN2Config, dict[str, Tensor]]:
    """Configuration and one network's state of our file; the other network is not read."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelError(f"{path} is not a StyleGAN2 of ours (format {metadata.get('format')!r}, expected "
                                 f"{FORMAT!r}); `edgegrain prior convert` makes one of a public checkpoint")
            config = StyleGAN2Config.from_dict(json.loads(metadata["config"]))
            state = {name.removeprefix(f"{network}."): file.get_tensor(name)
                     for name in file.keys() if name.startswith(f"{network}.")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} cannot be read as a StyleGAN2 of ours ({error}); `edgegrain prior convert` makes one "
                         "of a public checkpoint") from error
    if not state:
        raise ModelError(f"{path} holds no {network}")
    return config, state


def _fill(module: StyleGAN2 | Discriminator, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit the sizes in its header: {error}") from error


def _layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    nvidia = any(name.endswith(("synthesis.b4.const", "b4.fc.weight")) for name in tensors)
    return NVIDIA if nvidia else ROSINALITY


def _parameters(config: StyleGAN2Config, network: str) -> int:
    with torch.device("meta"):
        module = StyleGAN2(config) if network == "generator" else Discriminator(config)
    return sum(parameter.numel() for parameter in module.parameters())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` or torch file by name; nested dictionaries are joined by dots.

    Raises:
        ModelError: the file cannot be read, or holds what is no tensor or plain value: nothing else is unpickled.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # A training checkpoint of rosinality's carries its command line: a namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler raises whatever the bytes lead it to
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"{path} cannot be read as tensors ({reason}); expected a .safetensors file or a torch "
                         "file of plain tensors. NVIDIA's .pkl files hold program code: write their tensors to a file "
                         "once, by name, where their code is installed") from error
    return dict(_flatten(content))


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str):
                yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
